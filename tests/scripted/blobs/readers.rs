//! Every reader at its own pace and from its own offset; the fill belongs to none of them.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{eventually, in_flight, open, open_range, path_of, quiet, rest, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 1_000_000;

#[tokio::test]
async fn readers_get_what_is_there_while_the_rest_is_still_coming() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let mut first = open(&mirror.client(), &path_of(&digest)).await;
    assert_eq!((first.status().as_u16(), first.content_length()), (200, Some(SIZE)));
    assert_eq!(take(&mut first, 300_000).await, content.slice(0, 300_000));
    let mut late = open(&mirror.client(), &path_of(&digest)).await;
    assert_eq!(take(&mut late, 300_000).await, content.slice(0, 300_000));
    gate.open();
    for mut reader in [first, late] {
        assert_eq!(rest(&mut reader).await, (content.slice(300_000, SIZE).to_vec(), true));
    }
    assert_eq!(upstream.gets_of(&digest), 1);
}

#[tokio::test]
async fn a_range_that_is_there_is_whole_while_the_fill_runs() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 2);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let range = mirror.client().range(&path_of(&digest), "100000-199999").await;
    assert_eq!((range.status, range.header("content-range")), (206, "bytes 100000-199999/1000000"));
    assert!(range.body == content.slice(100_000, 200_000));
    assert_eq!(gate.arrivals(), 1, "the fill has not gone on meanwhile");
    gate.open();
}

#[tokio::test]
async fn a_206_goes_out_before_its_bytes_are_there() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(1000, &gate));
    let mut ahead = open_range(&mirror.client(), &path_of(&digest), "600000-699999").await;
    let mut last = open_range(&mirror.client(), &path_of(&digest), "-5").await;
    assert_eq!((ahead.status().as_u16(), last.status().as_u16()), (206, 206));
    assert_eq!(ahead.content_length(), Some(100_000));
    assert_eq!(last.headers()["content-range"], "bytes 999995-999999/1000000");
    gate.open();
    assert_eq!(rest(&mut ahead).await, (content.slice(600_000, 700_000).to_vec(), true));
    assert_eq!(rest(&mut last).await, (content.slice(SIZE - 5, SIZE).to_vec(), true));
    assert_eq!(upstream.gets_of(&digest), 1, "ranges join the fill");
    assert_eq!(upstream.requests_of(&blobs().ranged()).len(), 0, "a cold range downloads the blob");
}

/// containerd asks for open-ended ranges in parallel, and drops each when it has what it wanted.
#[tokio::test]
async fn t29_open_ended_ranges_dropped_early_cost_nothing() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 4);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let client = mirror.client();
    for round in 0..300_u64 {
        let mut dropped = open_range(&client, &path_of(&digest), &format!("{}-", round * 3000)).await;
        assert_eq!(dropped.status(), 206);
        if round < 50 {
            take(&mut dropped, 1).await;
        }
    }
    eventually("dropped readers are gone", async || in_flight(&mirror) == 0).await;
    gate.open();
    let whole = client.get(&path_of(&digest)).await;
    assert_eq!(sha256(&whole.body), digest);
    assert_eq!(upstream.gets_of(&digest), 1);
}

#[tokio::test]
async fn a_fill_goes_on_when_its_only_client_has_left() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 5);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let leaving = open(&mirror.client(), &path_of(&digest)).await;
    gate.arrived().await;
    drop(leaving);
    eventually("the client is gone", async || in_flight(&mirror) == 0).await;
    gate.open();
    quiet(&mirror).await;
    let again = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((sha256(&again.body), again.header("cache-status")), (digest.clone(), "roadstead; hit"));
    assert_eq!(upstream.gets_of(&digest), 1);
}

/// It would hold back a fill that waits for its readers.
#[tokio::test]
async fn t30_a_client_that_stalls_changes_nothing_for_others_and_is_cut() {
    let upstream = Upstream::start().await;
    let content = blob(32 * 1024 * 1024, 6);
    let digest = upstream.blob("library/app", &content);
    let toml = super::one(&upstream, "segments = 1");
    let mirror = Mirror::builder(toml).server("stall_timeout = \"700ms\"").start().await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(1000, &gate));
    let mut stalled = TcpStream::connect(mirror.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", path_of(&digest));
    stalled.write_all(request.as_bytes()).await.unwrap();
    gate.arrived().await;
    gate.open();
    let whole = mirror.client().get(&path_of(&digest)).await;
    assert_eq!(sha256(&whole.body), digest);
    assert_eq!(upstream.gets_of(&digest), 1);
    eventually("the stalled reader is cut", async || in_flight(&mirror) == 0).await;
    drop(stalled);
}

#[tokio::test]
async fn a_hundred_readers_at_their_own_offsets_cost_one_download() {
    let upstream = Upstream::start().await;
    let content = blob(4 * 1024 * 1024, 7);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(2 * 1024 * 1024, &gate));
    let readers: Vec<_> = (0..100_u64)
        .map(|nth| {
            let (client, path, want) = (mirror.client(), path_of(&digest), content.slice(nth * 40_000, content.size()));
            tokio::spawn(async move { client.range(&path, &format!("{}-", nth * 40_000)).await.body == want })
        })
        .collect();
    eventually("all are being answered", async || in_flight(&mirror) == 100).await;
    gate.open();
    for reader in readers {
        assert!(reader.await.unwrap(), "each has its own bytes");
    }
    assert_eq!(upstream.gets_of(&digest), 1);
}

/// Between the end of a fill and its record, or between a look at the index and one at the running fills, a request must
/// not find the blob in neither.
#[tokio::test]
async fn requests_around_the_end_of_a_fill_never_start_a_second_one() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    for seed in 0..40 {
        let content = blob(3000, 1000 + seed);
        let digest = upstream.blob("library/app", &content);
        let pulls: Vec<_> = (0..24)
            .map(|nth| {
                let (client, path) = (client.clone(), path_of(&digest));
                tokio::spawn(async move {
                    for _ in 0..nth {
                        tokio::task::yield_now().await;
                    }
                    client.get(&path).await.status
                })
            })
            .collect();
        for pull in pulls {
            assert_eq!(pull.await.unwrap(), 200);
        }
        assert_eq!(upstream.gets_of(&digest), 1, "blob {seed}");
    }
}
