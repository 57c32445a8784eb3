//! Nobody waits for ever, and nobody waits for another's upstream.

use super::{counted, in_flight, one, open, path_in, path_of, quiet, rest, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

/// A small blob waits whole, so an upstream that stops inside of it would hold the answer as long as it likes.
#[tokio::test]
async fn t31_an_upstream_that_hangs_inside_a_small_blob_is_a_504_in_time() {
    let upstream = Upstream::start().await;
    let content = blob(50_000, 1);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(100, &gate));
    let mirror = Mirror::start(one(&upstream, "response_timeout = \"300ms\"")).await;
    for _ in 0..2 {
        let answer = mirror.client().get(&path_of(&digest)).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    gate.open();
    quiet(&mirror).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((answer.header("cache-status"), upstream.gets_of(&digest)), ("roadstead; hit", 1), "the fill went on");
}

#[tokio::test]
async fn t31_an_upstream_that_never_answers_is_a_504_for_all_who_wait() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 2));
    upstream.script(blobs().get().once().hang_before_headers());
    let mirror = Mirror::start(one(&upstream, "response_timeout = \"500ms\"")).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (client, path) = (mirror.client(), path_of(&digest));
            tokio::spawn(async move { client.get(&path).await.status })
        })
        .collect();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 504);
    }
    assert_eq!(upstream.gets_of(&digest), 1);
}

/// The download of what does not tell its size may take as long as it takes, as long as it goes on.
#[tokio::test]
async fn a_blob_of_unknown_size_is_waited_for_as_long_as_it_grows() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("library/app", &content);
    upstream.refuse_head(Kind::Blob, 405);
    upstream.script(blobs().get().always().chunked().ignore_range());
    upstream.throttle(200_000);
    let mirror = Mirror::start(one(&upstream, "response_timeout = \"600ms\"")).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.status == 200 && answer.body == content.to_bytes(), "{}", answer.status);
}

#[tokio::test]
async fn t33_an_upstream_that_stalls_does_not_slow_another() {
    let (stalled, other) = (Upstream::start().await, Upstream::start().await);
    let content = blob(SIZE, 4);
    let digest = stalled.blob("library/app", &content);
    other.blob("library/app", &content);
    let gate = Gate::closed();
    stalled.script(every_request().always().stall_before_headers(&gate));
    let toml =
        format!("{}max_connections = 2\n[upstreams.\"other.test\"]\nurl = \"{}\"\n", one(&stalled, ""), other.url());
    let mirror = Mirror::start(toml).await;
    let waiting: Vec<_> = (0..40)
        .map(|nth| {
            let (client, path) = (mirror.client(), path_of(&sha256(&[nth])));
            tokio::spawn(async move { client.get(&path).await.status })
        })
        .collect();
    gate.arrived_times(2).await;
    let path = format!("{}?ns=other.test", path_of(&digest));
    assert!(mirror.client().get(&path).await.body == content.to_bytes());
    assert_eq!(in_flight(&mirror), 40, "the others still wait");
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 404);
    }
}

/// A reader that holds its place in a fill which comes to nothing is cut with it, wherever it was.
#[tokio::test]
async fn t31_every_reader_of_a_fill_that_fails_is_cut() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 5);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(100_000, &gate).cut_after(100_001));
    upstream.script(blobs().get().ranged().once().status(404));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let mut readers = Vec::new();
    for range in ["0-", "50000-", "200000-200009", "-5"] {
        readers.push(super::open_range(&client, &path_of(&digest), range).await);
    }
    gate.arrived().await;
    gate.open();
    for mut reader in readers {
        assert!(!rest(&mut reader).await.1);
    }
    quiet(&mirror).await;
    assert_eq!(in_flight(&mirror), 0);
    assert!(client.get(&path_of(&digest)).await.body == content.to_bytes());
}

/// Whoever comes while the download is being committed reads what is proven.
#[tokio::test]
async fn readers_do_not_wait_for_the_commit() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 6);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    // The directory that the blob goes to cannot be made: the commit fails.
    std::fs::remove_dir_all(mirror.storage().join("blobs")).unwrap();
    std::fs::write(mirror.storage().join("blobs"), "").unwrap();
    for _ in 0..2 {
        let mut reader = open(&mirror.client(), &path_of(&digest)).await;
        assert!(take(&mut reader, usize::try_from(SIZE).unwrap()).await == content.to_bytes());
    }
    quiet(&mirror).await;
    assert!(super::partial_files(&mirror).is_empty(), "what cannot be kept is not left behind");
    assert_eq!(counted(&mirror, "roadstead_stored_bytes"), 0);
}

#[tokio::test]
async fn a_blob_that_is_missing_is_asked_for_once_in_a_while() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let digest = sha256(b"missing");
    for _ in 0..5 {
        assert_eq!(mirror.client().get(&path_in("library/app", &digest)).await.status, 404);
    }
    assert_eq!(upstream.gets_of(&digest), 1);
    upstream.blob("library/app", "missing");
    mirror.advance(std::time::Duration::from_secs(11));
    assert_eq!(mirror.client().get(&path_in("library/app", &digest)).await.status, 200);
}
