//! Several ranges in one request: one body with all of them, cold as warm.

use bytes::Bytes;
use http::Method;

use super::ranges::{SIZE, cold_and_warm};
use super::{WITHHELD, mismatches, one, open_range, path_of, quiet, rest, stored_files, take};
use crate::operations::tls::{client_of, write_identity};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn parts_of(content: &Content, ranges: &[(u64, u64)]) -> Vec<(u64, Bytes)> {
    ranges.iter().map(|(first, end)| (*first, content.slice(*first, *end))).collect()
}

#[tokio::test]
async fn several_ranges_are_answered_cold_as_warm() {
    let sets: [(&str, &[(u64, u64)]); 6] = [
        ("0-9,100-199", &[(0, 10), (100, 200)]),
        ("0-9,10-19,199990-", &[(0, 10), (10, 20), (199_990, SIZE)]),
        ("500-999, 0-9 ,-7", &[(0, 10), (500, 1000), (SIZE - 7, SIZE)]),
        ("0-99,50-149,1000-1000", &[(0, 150), (1000, 1001)]),
        ("0-9,20-29,300000-400000", &[(0, 10), (20, 30)]),
        ("1-65536,135000-135999,136001-", &[(1, 65_537), (135_000, 136_000), (136_001, SIZE)]),
    ];
    for (ranges, expected) in sets {
        let (content, digest, answers) = cold_and_warm(&[("range", &format!("bytes={ranges}"))], 1).await;
        for answer in answers {
            assert_eq!((answer.status, answer.header("content-range")), (206, ""), "{ranges}");
            assert_eq!(answer.header("docker-content-digest"), digest);
            assert!(answer.parts() == parts_of(&content, expected), "{ranges}");
        }
    }
}

#[tokio::test]
async fn ranges_that_become_one_are_answered_as_one() {
    for ranges in ["0-99,50-199", "100-199,0-150", "0-199,500000-600000"] {
        let (content, _, answers) = cold_and_warm(&[("range", &format!("bytes={ranges}"))], 2).await;
        for answer in answers {
            assert_eq!((answer.status, answer.header("content-range")), (206, "bytes 0-199/200000"), "{ranges}");
            assert!(answer.body == content.slice(0, 200), "{ranges}");
        }
    }
}

/// What podman asks for when it updates a zstd:chunked layer: many ranges, in order, of which it counts the parts.
#[tokio::test]
async fn as_many_ranges_as_podman_asks_for_are_answered_part_by_part() {
    let upstream = Upstream::start().await;
    let content = blob(3 * 1024 * 1024, 3);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let asked: Vec<(u64, u64)> = (0..1024).map(|nth| (nth * 3000, nth * 3000 + 1 + nth % 2999)).collect();
    let ranges: Vec<String> = asked.iter().map(|(first, end)| format!("{first}-{}", end - 1)).collect();
    for _cold_and_warm in 0..2 {
        let answer = mirror.client().range(&path_of(&digest), &ranges.join(",")).await;
        assert!(answer.parts() == parts_of(&content, &asked));
        quiet(&mirror).await;
    }
    // The connection is as good as before.
    assert_eq!(mirror.client().range(&path_of(&digest), "5-6").await.body, content.slice(5, 7));
}

#[tokio::test]
async fn t55_hostile_sets_of_ranges_get_the_content_once_or_416() {
    let small = "0-0,2-2,".repeat(600);
    let overlapping = (0..500).map(|n| format!("{n}-")).collect::<Vec<_>>().join(",");
    let scattered = (0..1000).map(|n| format!("{}-{}", n * 200, n * 200)).collect::<Vec<_>>().join(",");
    for (ranges, status, length) in [
        (&*small, 200, SIZE),
        (&*overlapping, 206, SIZE),
        (&*scattered, 206, 180_000),
        ("0-99999,100001-199999", 200, SIZE),
        ("0-99999,110000-199999", 206, SIZE),
        ("0-99999,100000-199999", 200, SIZE),
        ("200000-,300000-", 416, 1000),
        ("-0,5-4", 416, 1000),
    ] {
        let (content, _, answers) = cold_and_warm(&[("range", &format!("bytes={ranges}"))], 4).await;
        for answer in answers {
            let length_sent = answer.body.len() as u64;
            assert_eq!(answer.status, status, "{ranges}");
            assert!(length_sent <= length, "{ranges}: {length_sent} bytes");
            assert!(status != 200 || answer.body == content.to_bytes(), "{ranges}");
            assert!(status != 416 || answer.header("content-range") == "bytes */200000", "{ranges}");
        }
    }
}

#[tokio::test]
async fn if_range_and_head_count_for_several_ranges_too() {
    let (content, _, answers) = cold_and_warm(&[("range", "bytes=0-1,5-6"), ("if-range", "\"other\"")], 5).await;
    for answer in answers {
        assert_eq!((answer.status, answer.body), (200, content.to_bytes()));
    }
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let head = mirror.client().send(Method::HEAD, &path_of(&digest), &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "200000"));
}

#[tokio::test]
async fn t16_of_several_ranges_those_in_the_tail_wait_for_the_proof() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 6);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().wrong_byte_at(5).stall_after(SIZE - 1, &gate));
    let mirror = Mirror::start(one(&upstream, "")).await;
    let ranges = format!("100-199,{}-{},{}-", SIZE - 100_000, SIZE - 99_901, SIZE - 10);
    let mut response = open_range(&mirror.client(), &path_of(&digest), &ranges).await;
    let length = response.content_length().unwrap();
    let in_front = take(&mut response, 200).await;
    assert!(!in_front.is_empty() && SIZE - 100_000 < SIZE - WITHHELD as u64);
    gate.open();
    let (more, complete) = rest(&mut response).await;
    assert!(!complete && ((in_front.len() + more.len()) as u64) < length - 10, "the last range is not given");
    quiet(&mirror).await;
    assert_eq!((stored_files(&mirror), mismatches(&mirror)), (Vec::new(), 1));
}

#[tokio::test]
async fn several_ranges_are_answered_over_tls() {
    let upstream = Upstream::start().await;
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = write_identity(&ca, directory.path(), "a");
    let mirror = Mirror::builder(one(&upstream, "")).server(&tls).start().await;
    let client = client_of(&ca, mirror.address);
    for (size, ranges) in [(50_000, [(0, 10), (40_000, 40_100)]), (3_000_000, [(7, 1_500_000), (2_999_990, 3_000_000)])]
    {
        let content = blob(size, size);
        let digest = upstream.blob("library/app", &content);
        let asked = ranges.map(|(first, end)| format!("{first}-{}", end - 1)).join(",");
        for _cold_and_warm in 0..2 {
            assert!(client.range(&path_of(&digest), &asked).await.parts() == parts_of(&content, &ranges), "{size}");
            quiet(&mirror).await;
        }
    }
}
