//! A full or failing disk never fails a pull: what cannot be kept is passed through, its tail held all the same.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{counted, eventually, mismatches, one, open, open_range, partial_files, path_of, quiet, rest};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;
const LIMIT: u64 = SIZE - super::WITHHELD as u64;

async fn full(upstream: &Upstream) -> Mirror {
    Mirror::builder(one(upstream, "")).storage("max_size = \"10KiB\"").start().await
}

pub(super) fn passed_through(mirror: &Mirror) -> u64 {
    counted(mirror, r#"roadstead_uncached_streams_total{authority="docker.io"}"#)
}

#[tokio::test]
async fn a_full_store_passes_blobs_and_ranges_through() {
    let upstream = Upstream::start().await;
    for size in [0, 5000, 60_000, SIZE] {
        let content = blob(size, 1);
        let digest = upstream.blob("library/app", &content);
        let mirror = full(&upstream).await;
        let whole = mirror.client().get(&path_of(&digest)).await;
        assert_eq!((whole.status, whole.header("content-length")), (200, &*size.to_string()));
        assert!(whole.body == content.to_bytes());
        quiet(&mirror).await;
        assert_eq!(passed_through(&mirror), u64::from(size > 10 * 1024), "{size}");
        if size == 0 {
            continue;
        }
        for (range, first, end) in [("100-199", 100, 200), ("-50", size - 50, size), ("200-", 200, size)] {
            let part = mirror.client().range(&path_of(&digest), range).await;
            assert_eq!((part.status, part.body), (206, content.slice(first, end)), "{size} {range}");
        }
    }
}

#[tokio::test]
async fn a_range_that_is_passed_through_costs_no_more_than_its_bytes() {
    let upstream = Upstream::start().await;
    let content = blob(64 * 1024 * 1024, 2);
    let digest = upstream.blob("library/app", &content);
    let mirror = full(&upstream).await;
    assert_eq!(mirror.client().range(&path_of(&digest), "0-9").await.body, content.slice(0, 10));
    upstream.forget_requests();
    let last = content.size() - super::WITHHELD as u64;
    let range = mirror.client().range(&path_of(&digest), &format!("{}-{}", last - 1000, last - 1)).await;
    assert!(range.body == content.slice(last - 1000, last));
    let starts: Vec<_> = upstream.requests_of(&blobs().get()).iter().map(Recorded::range_start).collect();
    assert_eq!(starts, [Some(last - 1000)]);
}

#[tokio::test]
async fn t16_the_tail_of_what_is_passed_through_waits_for_the_proof() {
    for (range, first) in [(None, 0), (Some("1000-"), 1000), (Some("-10"), SIZE - 10)] {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 3);
        let digest = upstream.blob("library/app", &content);
        upstream.script(blobs().get().always().wrong_byte_at(5));
        let mirror = full(&upstream).await;
        let client = mirror.client();
        let mut response = match range {
            None => open(&client, &path_of(&digest)).await,
            Some(range) => open_range(&client, &path_of(&digest), range).await,
        };
        let (given, complete) = rest(&mut response).await;
        assert!(!complete && given.len() as u64 <= LIMIT.saturating_sub(first), "{range:?}: {}", given.len());
        assert_eq!(mismatches(&mirror), 1, "{range:?}");
        let asked = upstream.gets_of(&digest);
        assert_eq!(client.get(&path_of(&digest)).await.status, 502);
        assert_eq!(upstream.gets_of(&digest), asked, "the endpoint is left alone");
    }
}

#[tokio::test]
async fn t16_a_lie_about_a_small_blob_that_is_passed_through_is_a_clean_502() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(60_000, 4));
    upstream.script(blobs().get().always().wrong_byte_at(5));
    let mirror = full(&upstream).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((answer.status, mismatches(&mirror)), (502, 1));
}

/// The withheld tail must not grow with what an upstream sends.
#[tokio::test]
async fn t29_a_body_longer_than_promised_is_cut_where_it_should_have_ended() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 5);
    let digest = upstream.blob("library/app", &content);
    let mirror = full(&upstream).await;
    upstream.script(blobs().get().always().content(content.with_size(8 * 1024 * 1024 * 1024)).chunked());
    let (given, complete) = rest(&mut open(&mirror.client(), &path_of(&digest)).await).await;
    assert!(!complete && given == content.slice(0, given.len() as u64) && given.len() as u64 <= LIMIT);
    assert!(upstream.bytes_sent() < 64 * 1024 * 1024, "{}", upstream.bytes_sent());
}

#[tokio::test]
async fn room_that_is_there_again_is_used_after_half_a_minute() {
    let upstream = Upstream::start().await;
    let (first, second) = (blob(6000, 6), blob(6000, 7));
    let (first_digest, digest) = (upstream.blob("library/app", &first), upstream.blob("library/app", &second));
    let mirror = full(&upstream).await;
    let client = mirror.client();
    // A blob that is being downloaded is not evicted.
    let gate = Gate::closed();
    upstream.script(blobs().get().reference(&first_digest).once().stall_after(3000, &gate));
    let filling = tokio::spawn({
        let (client, path) = (client.clone(), path_of(&first_digest));
        async move { client.get(&path).await.body }
    });
    gate.arrived().await;
    // The mirror may not have read yet what upstream has sent.
    let takes_space = |file: &PathBuf| file.metadata().is_ok_and(|file| file.blocks() * 512 >= first.size());
    eventually("space is set aside for it", async || partial_files(&mirror).iter().any(takes_space)).await;
    client.get(&path_of(&digest)).await;
    assert_eq!(passed_through(&mirror), 1);
    gate.open();
    assert!(filling.await.unwrap() == first.to_bytes());
    quiet(&mirror).await;
    client.get(&path_of(&digest)).await;
    assert_eq!(passed_through(&mirror), 2, "not tried again at once");
    mirror.advance(Duration::from_secs(31));
    client.get(&path_of(&digest)).await;
    quiet(&mirror).await;
    assert_eq!(client.get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn a_storage_that_cannot_be_written_to_passes_blobs_through() {
    for broken in ["partial", "blobs/sha256"] {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 8);
        let digest = upstream.blob("library/app", &content);
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let path = mirror.storage().join(broken);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::write(&path, "not a directory").unwrap();
        for _ in 0..2 {
            assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes(), "{broken}");
            quiet(&mirror).await;
        }
        assert_eq!(mirror.client().range(&path_of(&digest), "-10").await.body, content.slice(SIZE - 10, SIZE));
    }
}
