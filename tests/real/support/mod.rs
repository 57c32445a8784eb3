//! The harness: processes, private machines, images, registries, and Roadstead itself.

pub(crate) mod browser;
pub(crate) mod certificate;
pub(crate) mod client_files;
pub(crate) mod curl;
pub(crate) mod distance;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod mirror;
pub(crate) mod nginx;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod registry;
pub(crate) mod throttle;
pub(crate) mod upstreams;
pub(crate) mod wait;

use tempfile::TempDir;

/// A folder for one test. Its path is short, because those of unix sockets below it must be.
pub(crate) fn work_folder() -> TempDir {
    tempfile::Builder::new().prefix("rs-").tempdir_in("/tmp").expect("/tmp is writable")
}
