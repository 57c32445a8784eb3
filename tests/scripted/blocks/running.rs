//! Pulls that run when a block comes.

use super::*;
use crate::blobs::{open, partial_files, rest, stored_files, take};
use crate::support::mirror::quiet;

const LARGE: u64 = 64 * 1024 * 1024;

/// A blob that is stored, and an answer with it of which only the beginning was read.
async fn half_read(size: u64) -> (Upstream, Mirror, String, reqwest::Response) {
    let registry = Upstream::start().await;
    let digest = registry.blob("org/app", blob(size, 1));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let path = layer("org/app", &digest);
    assert_eq!(mirror.client().get(&path).await.status, 200);
    quiet(&mirror).await;
    let mut response = open(&mirror.client(), &path).await;
    take(&mut response, 1).await;
    (registry, mirror, digest, response)
}

#[tokio::test]
async fn t111_a_body_that_is_being_sent_is_cut_when_its_blob_is_blocked() {
    for by_name in [false, true] {
        let (_registry, mirror, digest, mut response) = half_read(LARGE).await;
        block(&mirror, if by_name { "docker.io/org/**" } else { &digest }).await;
        let (_given, is_complete) = rest(&mut response).await;
        assert!(!is_complete, "by name: {by_name}");
        assert!(is_refused(&mirror.client().get(&layer("org/app", &digest)).await));
    }
}

#[tokio::test]
async fn a_body_that_is_being_sent_goes_on_when_something_else_is_blocked() {
    let (_registry, mirror, _digest, mut response) = half_read(LARGE).await;
    block(&mirror, "docker.io/org/other").await;
    let (given, is_complete) = rest(&mut response).await;
    assert!(is_complete && !given.is_empty());
}

#[tokio::test]
async fn t111_a_download_of_what_is_blocked_ends_and_gives_nobody_more() {
    let registry = Upstream::start().await;
    let digest = registry.blob("org/app", blob(1_000_000, 1));
    let gate = Gate::closed();
    registry.script(blobs().get().once().stall_after(500_000, &gate));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let path = layer("org/app", &digest);
    let mut response = open(&mirror.client(), &path).await;
    let given = take(&mut response, 400_000).await.len();
    block(&mirror, &digest).await;
    // Upstream still holds the rest back: the body does not wait for it.
    let (more, is_complete) = rest(&mut response).await;
    assert!(!is_complete && given + more.len() <= 500_000, "{given} + {}", more.len());
    quiet(&mirror).await;
    assert_eq!((stored_files(&mirror), partial_files(&mirror)), (Vec::new(), Vec::new()));
    assert!(is_refused(&mirror.client().get(&path).await));
    gate.open();
    unblock(&mirror, &digest).await;
    let whole = mirror.client().get(&path).await;
    assert_eq!((whole.status, whole.body.len()), (200, 1_000_000));
}
