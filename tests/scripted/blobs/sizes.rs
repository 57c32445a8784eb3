//! Where the size comes from, and blobs of odd sizes and digests.

use super::{one, open, partial_files, path_of, quiet, rest, stored_files, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

#[tokio::test]
async fn without_a_content_length_head_tells_the_size() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().chunked().stall_after(100_000, &gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut response = open(&mirror.client(), &path_of(&digest)).await;
    assert_eq!(response.content_length(), Some(SIZE));
    assert_eq!(take(&mut response, 100_000).await, content.slice(0, 100_000), "nothing waits for the end");
    gate.open();
    assert!(rest(&mut response).await.1);
    assert_eq!((upstream.gets_of(&digest), upstream.heads_of(&digest)), (1, 1));
}

#[tokio::test]
async fn where_head_is_refused_too_the_first_byte_tells_the_size() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 2);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().unranged().once().chunked());
    upstream.refuse_head(Kind::Blob, 405);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((answer.header("content-length"), &answer.body), ("300000", &content.to_bytes()));
    let asked: Vec<_> = upstream.requests_of(&blobs().get()).into_iter().map(|request| request.range).collect();
    assert_eq!(asked, [None, Some("bytes=0-0".to_owned())]);
}

#[tokio::test]
async fn where_nothing_tells_the_size_the_answer_waits_for_the_proof() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().always().chunked().ignore_range());
    upstream.refuse_head(Kind::Blob, 405);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let answer = client.get(&path_of(&digest)).await;
    assert_eq!((answer.header("content-length"), &answer.body), ("300000", &content.to_bytes()));
    quiet(&mirror).await;
    let again = client.range(&path_of(&digest), "-10").await;
    assert_eq!(again.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn t16_a_lie_of_unknown_size_is_a_clean_502() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 4);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().always().chunked().ignore_range().wrong_byte_at(1));
    upstream.refuse_head(Kind::Blob, 405);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(&path_of(&digest)).await.status, 502);
    quiet(&mirror).await;
    assert_eq!((stored_files(&mirror), partial_files(&mirror)), (Vec::new(), Vec::new()));
}

/// It promises no end, so nobody may wait for one.
#[tokio::test]
async fn t29_a_body_without_an_end_takes_no_more_space_than_there_is() {
    let upstream = Upstream::start().await;
    let endless = blob(64 * 1024 * 1024 * 1024, 5);
    let digest = sha256(b"never to be seen");
    upstream.blob_as("library/app", &digest, &endless);
    upstream.script(blobs().get().always().chunked().ignore_range());
    upstream.refuse_head(Kind::Blob, 405);
    let mirror = Mirror::builder(one(&upstream, "")).storage("max_size = \"8MiB\"").start().await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!(answer.status, 502);
    quiet(&mirror).await;
    assert_eq!(partial_files(&mirror), Vec::<std::path::PathBuf>::new());
    assert!(upstream.bytes_sent() < 64 * 1024 * 1024, "{}", upstream.bytes_sent());
}

#[tokio::test]
async fn a_blob_of_no_bytes_is_a_blob() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", "");
    upstream.blob("library/other", "");
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    for outcome in ["roadstead; fwd=miss; stored", "roadstead; hit"] {
        let answer = client.get(&path_of(&digest)).await;
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, "0", 0));
        assert_eq!((answer.header("docker-content-digest"), answer.header("cache-status")), (&*digest, outcome));
        quiet(&mirror).await;
    }
    let range = client.range(&path_of(&digest), "0-0").await;
    assert_eq!((range.status, range.header("content-range")), (416, "bytes */0"));
    assert_eq!(client.head(&path_of(&digest)).await.status, 200);
    assert_eq!(client.get(&super::path_in("library/other", &digest)).await.status, 200);
    assert_eq!(client.get(&super::path_in("library/third", &digest)).await.status, 404);
}

#[tokio::test]
async fn sha512_is_a_digest_like_any_other() {
    let upstream = Upstream::start().await;
    let (content, small) = (blob(SIZE, 6), blob(100, 7));
    let digest = content.sha512();
    upstream.blob_as("library/app", &digest, &content);
    // Right length, right form, wrong bytes.
    let false_digest = blob(100, 8).sha512();
    upstream.blob_as("library/app", &false_digest, &small);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let answer = client.get(&path_of(&digest)).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (&*digest, &content.to_bytes()));
    quiet(&mirror).await;
    assert_eq!(client.range(&path_of(&digest), "5-9").await.body, content.slice(5, 10));
    assert_eq!(upstream.gets_of(&digest), 1);
    assert_eq!(client.get(&path_of(&false_digest)).await.status, 502);
}
