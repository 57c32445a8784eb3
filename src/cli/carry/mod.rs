//! Commands that fill the mirror and carry what it holds: they start jobs, and show what becomes of them.

mod directory;
pub(super) mod export;
pub(super) mod follow;
pub(super) mod import;
pub(super) mod inventory;
mod output;
pub(super) mod warm;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use roadstead::jobs::read_images;

use super::output::usage;

/// The names of the command line, then those of files: lists, or manifests of Kubernetes or compose.
pub(super) fn names(given: &[String], files: &[PathBuf]) -> Result<Vec<String>, ExitCode> {
    let mut names = given.to_vec();
    for file in files {
        let read =
            if file == Path::new("-") { read_images(std::io::stdin()) } else { File::open(file).and_then(read_images) };
        names.extend(read.map_err(|err| usage(&format!("{} cannot be read: {err}", file.display())))?);
    }
    Ok(names)
}
