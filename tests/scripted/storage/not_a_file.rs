//! Something that is no file in a stored blob's place.

use std::os::unix::net::UnixListener;
use std::path::Path;

use roadstead::cache::scrub::{self, VerifyProgress};
use rustix::fs::{CWD, FileType, Mode};

use super::{is_held, one, published, pull, quiet};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// What somebody may put there.
const THINGS: [(&str, fn(&Path)); 3] = [
    ("a FIFO", |path| {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a directory", |path| std::fs::create_dir(path).unwrap()),
];

/// A FIFO has who opens it wait for a writer, who never comes.
#[tokio::test]
async fn t61_what_is_no_file_in_a_blobs_place_blocks_nobody_and_the_blob_is_fetched_again() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mut mirror = Mirror::start(one(&upstream)).await;
    for (thing, put) in THINGS {
        for finds_it in ["a pull", "a verify"] {
            mirror.pull_whole("org/app", "1").await;
            quiet(&mirror).await;
            let layer = &app.layers()[1];
            let hex = layer.digest.strip_prefix("sha256:").unwrap();
            // Stopped meanwhile, so that no open file answers.
            let stopped = mirror.stop().await;
            // Sockets have short names: made beside it, and moved.
            let (path, beside) =
                (stopped.storage().join("blobs/sha256").join(&hex[..2]).join(hex), stopped.storage().join("x"));
            std::fs::remove_file(&path).unwrap();
            put(&beside);
            std::fs::rename(&beside, &path).unwrap();
            mirror = stopped.start().await;
            if finds_it == "a verify" {
                let report = scrub::verify(mirror.inner().cache(), None, &VerifyProgress::default()).await;
                assert_eq!(report.wrong.len(), 1, "{thing}: {report:?}");
            }
            pull(&mirror.client(), "app", &app).await;
            quiet(&mirror).await;
            assert!(is_held(&mirror.client(), "app", &app).await && path.is_file(), "{thing}, found by {finds_it}");
        }
    }
}
