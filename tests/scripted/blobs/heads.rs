//! HEAD tells what GET would, and downloads nothing.

use super::{open, partial_files, path_of, quiet, stored_files};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

#[tokio::test]
async fn a_cold_head_never_starts_a_fill() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let head = mirror.client().head(&path_of(&digest)).await;
    assert_eq!((head.status, head.header("content-length")), (200, "300000"));
    assert_eq!(head.header("docker-content-digest"), digest);
    let ranged = mirror.client().send(http::Method::HEAD, &path_of(&digest), &[("range", "bytes=0-9")]).await;
    assert_eq!((ranged.status, ranged.header("content-length")), (200, "300000"), "HEAD ignores Range");
    quiet(&mirror).await;
    assert_eq!((upstream.gets_of(&digest), upstream.heads_of(&digest)), (0, 2));
    assert!(stored_files(&mirror).is_empty() && partial_files(&mirror).is_empty());
}

#[tokio::test]
async fn where_head_is_refused_one_byte_is_asked_for() {
    for status in [401, 403, 405] {
        let upstream = Upstream::start().await;
        let digest = upstream.blob("library/app", blob(SIZE, 2));
        upstream.refuse_head(Kind::Blob, status);
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let head = mirror.client().head(&path_of(&digest)).await;
        assert_eq!((head.status, head.header("content-length")), (200, "300000"), "{status}");
        assert_eq!(upstream.bytes_sent_of(&digest), 1, "{status}");
    }
}

/// Proxies answer 404 to HEAD before they have fetched a blob.
#[tokio::test]
async fn a_404_to_head_is_not_believed() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 3));
    upstream.script(blobs().head().always().head_404_until_get());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().head(&path_of(&digest)).await.status, 200);
    let missing = mirror.client().head(&path_of(&sha256(b"not there"))).await;
    assert_eq!(missing.status, 404);
    assert_eq!(upstream.bytes_sent_of(&digest), 1);
}

#[tokio::test]
async fn a_head_during_a_fill_joins_it() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 4));
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(10, &gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let get = open(&mirror.client(), &path_of(&digest)).await;
    let head = mirror.client().head(&path_of(&digest)).await;
    assert_eq!((head.status, head.header("content-length")), (200, "300000"));
    assert_eq!(upstream.heads_of(&digest), 0);
    gate.open();
    drop(get);
}

#[tokio::test]
async fn a_head_of_what_is_stored_asks_nobody() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 5));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(&path_of(&digest)).await;
    quiet(&mirror).await;
    upstream.stop().await;
    let head = mirror.client().head(&path_of(&digest)).await;
    assert_eq!((head.status, head.header("cache-status")), (200, "roadstead; hit"));
}
