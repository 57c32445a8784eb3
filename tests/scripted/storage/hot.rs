//! A content in memory, or an open file, is served for as long as it is right and stored, and no longer.

use roadstead::cache::scrub::{VerifyProgress, verify};

use super::verify::rot;
use super::{one, published, quiet, read};
use crate::support::image::Image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// A small layer in memory and a larger one whose file is open: pulled, and asked for twice.
async fn hot(upstream: &Upstream, storage: &str) -> (Mirror, Image) {
    let app = published(upstream, "app", 1);
    let mirror = Mirror::builder(format!("{}tag_ttl = \"1h\"", one(upstream))).storage(storage).start().await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    for part in &app.blobs {
        for _ in 0..2 {
            assert_eq!(mirror.client().get(&path_of(&part.digest)).await.header("cache-status"), "roadstead; hit");
        }
    }
    assert!(is_open(&app.layers()[1].digest), "kept open");
    upstream.forget_requests();
    (mirror, app)
}

pub(super) fn path_of(digest: &str) -> String {
    format!("/v2/org/app/blobs/{digest}")
}

/// Whether this process has the blob's file open, removed or not.
fn is_open(digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|file| file.to_string_lossy().contains(hex))
}

#[tokio::test]
async fn what_was_found_rotten_is_not_served_from_memory_or_an_open_file() {
    let upstream = Upstream::start().await;
    let (mirror, app) = hot(&upstream, "").await;
    for layer in app.layers() {
        // The same file: who has it open would read the wrong bytes.
        rot(&mirror.storage(), &layer.digest);
    }
    let report = verify(mirror.inner().cache(), None, &VerifyProgress::default()).await;
    assert_eq!(report.wrong.len(), 2, "{report:?}");
    for layer in app.layers() {
        let (bytes, whole) = read(&mirror.client(), &path_of(&layer.digest), 0).await;
        assert!(whole && bytes == layer.content.to_bytes(), "{}", layer.digest);
        assert_eq!(upstream.gets_of(&layer.digest), 1, "fetched again");
        quiet(&mirror).await;
        let again = mirror.client().get(&path_of(&layer.digest)).await;
        assert!(again.header("cache-status") == "roadstead; hit" && again.body == layer.content.to_bytes());
    }
}

#[tokio::test]
async fn what_was_evicted_is_not_served_from_an_open_file_and_its_space_is_given_back() {
    let upstream = Upstream::start().await;
    let (mirror, app) = hot(&upstream, "max_size = \"1MiB\"").await;
    let large = &app.layers()[1].digest;
    for seed in 10..13 {
        mirror.advance(std::time::Duration::from_hours(1000));
        let digest = upstream.blob("org/app", blob(400_000, seed));
        assert_eq!(mirror.client().get(&path_of(&digest)).await.status, 200);
        quiet(&mirror).await;
    }
    let hex = large.strip_prefix("sha256:").unwrap();
    super::eventually("it is evicted", async || {
        !mirror.storage().join("blobs/sha256").join(&hex[..2]).join(hex).exists()
    })
    .await;
    super::eventually("and closed", async || !is_open(large)).await;
    let again = mirror.client().get(&path_of(large)).await;
    assert!(again.status == 200 && sha256(&again.body) == *large);
    assert_eq!(upstream.gets_of(large), 1, "fetched again");
}

#[tokio::test]
async fn t13_a_download_that_ends_after_access_was_revoked_grants_nothing() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror =
        Mirror::start(format!("{}tag_ttl = \"0s\"\nbreaker_window = \"0s\"\non_denied = \"refuse\"", one(&upstream)))
            .await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/org/app/manifests/1").await.status, 200);
    let large = app.layers()[1].digest.clone();
    let gate = Gate::closed();
    upstream.script(blobs().get().reference(&large).once().stall_after(100_000, &gate));
    let pull = tokio::spawn({
        let (client, path) = (client.clone(), path_of(&large));
        async move { client.get(&path).await.status }
    });
    gate.arrived().await;
    upstream.script(every_request().always().status(403));
    assert_eq!(client.get("/v2/org/app/manifests/1").await.status, 403);
    gate.open();
    assert_eq!(pull.await.unwrap(), 200, "it had been let in");
    quiet(&mirror).await;
    for _ in 0..2 {
        assert_eq!(client.get(&path_of(&large)).await.status, 403);
    }
}
