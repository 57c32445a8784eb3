//! Stored bytes are read again; what has rotted is put aside and fetched again.

use std::path::{Path, PathBuf};

use roadstead::cache::scrub::{self, VerifyProgress, VerifyReport};

use super::{eventually, is_held, one, published, pull, quiet, stored_right};
use crate::blobs::process::Process;
use crate::support::client::Client;
use crate::support::image::Image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

/// Turns one bit of a stored blob over, as a disk does: its length stays.
pub(super) fn rot(storage: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let path = storage.join("blobs/sha256").join(&hex[..2]).join(hex);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn verify(mirror: &Mirror) -> VerifyReport {
    scrub::verify(mirror.inner().cache(), None, &VerifyProgress::default()).await
}

/// With an image that is stored and known.
async fn with_an_image(upstream: &Upstream) -> (Mirror, Image) {
    let app = published(upstream, "app", 1);
    let mirror = Mirror::start(one(upstream)).await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    (mirror, app)
}

#[tokio::test]
async fn a_blob_that_rotted_is_put_aside_and_fetched_again() {
    let upstream = Upstream::start().await;
    let (mirror, app) = with_an_image(&upstream).await;
    let stored = stored_right(&mirror.storage()).len() as u64;
    let clean = verify(&mirror).await;
    assert!(clean.complete && clean.wrong.is_empty() && clean.blobs == stored, "{clean:?}");
    let before = mirror.metric("roadstead_stored_bytes");
    let layer = &app.layers()[1];
    let path = rot(&mirror.storage(), &layer.digest);
    let report = verify(&mirror).await;
    assert_eq!(report.wrong.iter().map(ToString::to_string).collect::<Vec<_>>(), std::slice::from_ref(&layer.digest));
    assert!(report.lost.is_empty() && !path.exists(), "{report:?}");
    assert_eq!(files_below(&mirror.storage().join("quarantine")).len(), 1);
    assert_eq!(mirror.metric("roadstead_damaged_blobs_total"), 1.0);
    assert_eq!(mirror.metric("roadstead_stored_bytes"), before, "what is in quarantine counts");
    let ready = Client::new(mirror.admin).get("/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("degraded: verify"), "{}", ready.text());
    pull(&mirror.client(), "app", &app).await;
    quiet(&mirror).await;
    assert!(is_held(&mirror.client(), "app", &app).await);
    assert_eq!(mirror.metric("roadstead_stored_bytes"), before + 303_104.0, "74 blocks more");
    assert!(verify(&mirror).await.wrong.is_empty());
    assert_eq!(Client::new(mirror.admin).get("/readyz").await.text(), "ready\n", "a clean pass heals");
}

#[tokio::test]
async fn a_rotten_blob_without_an_upstream_is_listed_as_lost_until_it_is_stored_again() {
    let upstream = Upstream::start().await;
    let (mirror, app) = with_an_image(&upstream).await;
    let stopped = mirror.stop().await;
    let layer = &app.layers()[1];
    rot(&stopped.storage(), &layer.digest);
    let mirror = stopped.start_with(format!("{}offline = true\n", one(&upstream))).await;
    let report = verify(&mirror).await;
    assert_eq!(report.lost, report.wrong);
    let lost = scrub::lost(mirror.inner().cache()).await.unwrap();
    assert_eq!((lost.len(), lost[0].digest.to_string(), lost[0].size_bytes), (1, layer.digest.clone(), 300_000));
    let path = format!("/v2/org/app/blobs/{}", layer.digest);
    assert_eq!(mirror.client().get(&path).await.status, 404);
    // The list is on disk, and the blob heals by being stored, however it comes.
    let mirror = mirror.stop().await.start_with(one(&upstream)).await;
    assert_eq!(scrub::lost(mirror.inner().cache()).await.unwrap().len(), 1);
    assert!(mirror.client().get(&path).await.body == layer.content.to_bytes());
    quiet(&mirror).await;
    eventually("it is no longer lost", async || scrub::lost(mirror.inner().cache()).await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn the_background_reads_everything_again_when_it_is_due_and_not_before() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let toml = one(&upstream);
    let mirror = Mirror::builder(&*toml).storage("verify_every = \"1day\"\nverify_rate = \"unlimited\"").start().await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    let note = mirror.storage().join("VERIFY");
    let place = move || std::fs::read_to_string(&note).unwrap_or_default();
    eventually("the first pass is over", async || place().contains(r#""shard":512"#)).await;
    let verified = mirror.metric("roadstead_verified_bytes_total");
    let path = rot(&mirror.storage(), &app.layers()[1].digest);
    let mirror = mirror.restart().await;
    mirror.advance(std::time::Duration::from_hours(23));
    let mirror = mirror.restart().await;
    assert!(path.exists(), "not due, after {verified} bytes");
    mirror.advance(std::time::Duration::from_hours(2));
    let mirror = mirror.restart().await;
    eventually("it is found", async || !path.exists()).await;
    pull(&mirror.client(), "app", &app).await;
}

#[tokio::test]
async fn what_was_stored_shortly_before_an_unclean_stop_is_checked_at_the_next_start() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("data");
    for clean in [true, false] {
        let process = Process::start_on(directory.path(), &storage, &one(&upstream)).await;
        pull(&process.client(), "app", &app).await;
        eventually("stored", async || is_held(&process.client(), "app", &app).await).await;
        if clean {
            process.stop().await;
        } else {
            process.kill();
        }
        let path = rot(&storage, &app.layers()[1].digest);
        let process = Process::start_on(directory.path(), &storage, &one(&upstream)).await;
        if clean {
            // Nothing is looked at: there is no telling when "never" has been waited for, but the mark is taken at start.
            assert!(!storage.join("STOPPED").exists());
            std::fs::remove_file(path).unwrap();
        } else {
            eventually("it is found", async || !path.exists()).await;
            assert_eq!(files_below(&storage.join("quarantine")).len(), 1);
        }
        pull(&process.client(), "app", &app).await;
        process.stop().await;
        assert!(storage.join("STOPPED").exists());
    }
}
