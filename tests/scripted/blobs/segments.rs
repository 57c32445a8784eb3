//! A large blob over several connections: nothing that befalls one of them may show.

use super::{mismatches, one, open, open_range, path_of, quiet, rest, stored_files, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 40 * MIB;
/// Bytes that one connection brings before it is held: enough for others to be worth it.
const HELD_AT: u64 = MIB;

/// A first connection that stops coming, so that others are called.
fn hold_the_first(upstream: &Upstream) -> Gate {
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(HELD_AT, &gate));
    gate
}

fn parts(upstream: &Upstream) -> usize {
    upstream.requests_of(&blobs().get().ranged()).len()
}

#[tokio::test]
async fn a_connection_that_stalls_loses_its_part_to_others() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let _held = hold_the_first(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!(sha256(&answer.body), digest);
    quiet(&mirror).await;
    assert_eq!((stored_files(&mirror).len(), mismatches(&mirror)), (1, 0));
    let asked = upstream.requests_of(&blobs().get().ranged());
    assert!(
        asked.iter().all(|request| request.range.as_deref().is_some_and(|range| !range.ends_with('-'))),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_reader_far_ahead_is_served_before_what_lies_between() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 2);
    let digest = upstream.blob("library/app", &content);
    let gate = hold_the_first(&upstream);
    // Only the part that is waited for comes.
    let other = blobs().get().ranged().when(|request| request.range_start() != Some(30 * MIB));
    upstream.script(other.always().stall_before_headers(&gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut ahead = open_range(&mirror.client(), &path_of(&digest), &format!("{}-{}", 30 * MIB, 31 * MIB - 1)).await;
    let given = take(&mut ahead, usize::try_from(MIB).unwrap()).await;
    assert!(given == content.slice(30 * MIB, 31 * MIB));
    gate.open();
    quiet(&mirror).await;
    assert_eq!(sha256(&mirror.client().get(&path_of(&digest)).await.body), digest);
}

#[tokio::test]
async fn with_segments_1_or_a_small_blob_there_is_one_connection() {
    for (size, keys) in [(SIZE, "segments = 1\nidle_timeout = \"1s\""), (10 * MIB, "idle_timeout = \"1s\"")] {
        let upstream = Upstream::start().await;
        let digest = upstream.blob("library/app", blob(size, 3));
        let gate = hold_the_first(&upstream);
        let mirror = Mirror::start(one(&upstream, keys)).await;
        assert_eq!(sha256(&mirror.client().get(&path_of(&digest)).await.body), digest);
        assert_eq!(parts(&upstream), 1, "the resume after the stall, and nothing else");
        gate.open();
    }
}

#[tokio::test]
async fn an_upstream_that_ignores_ranges_is_asked_for_a_part_once() {
    let upstream = Upstream::start().await;
    let digests = [4, 5].map(|seed| upstream.blob("library/app", blob(SIZE, seed)));
    upstream.script(blobs().get().ranged().always().ignore_range());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for (nth, digest) in digests.iter().enumerate() {
        let gate = hold_the_first(&upstream);
        let mut reader = open(&mirror.client(), &path_of(digest)).await;
        take(&mut reader, usize::try_from(HELD_AT).unwrap()).await;
        if nth == 0 {
            upstream.wait_for(1, blobs().get().ranged()).await;
        }
        gate.open();
        let (_, complete) = rest(&mut reader).await;
        assert!(complete);
        quiet(&mirror).await;
    }
    assert_eq!((parts(&upstream), mismatches(&mirror)), (1, 0));
}

#[tokio::test]
async fn a_ration_on_a_further_connection_narrows_and_opens_no_breaker() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 6));
    let gate = hold_the_first(&upstream);
    upstream.script(blobs().get().ranged().always().too_many_requests("600"));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let mut reader = open(&client, &path_of(&digest)).await;
    take(&mut reader, usize::try_from(HELD_AT).unwrap()).await;
    upstream.wait_for(1, blobs().get().ranged()).await;
    let small = upstream.blob("library/app", blob(1000, 7));
    assert_eq!(client.get(&path_of(&small)).await.status, 200, "the upstream is asked for other blobs");
    gate.open();
    assert!(rest(&mut reader).await.1);
    assert_eq!(parts(&upstream), 1);
}

/// Each is a lie about one part; the first connection's word stands.
#[tokio::test]
async fn parts_of_another_blob_are_never_mixed_in() {
    let lies: [fn(Step) -> Step; 4] = [
        |step| step.header("etag", "\"another\""),
        |step| step.content_range("bytes 0-99/100"),
        |step| step.without_header("content-range"),
        |step| step.truncated_to(39 * MIB),
    ];
    for (nth, lie) in lies.into_iter().enumerate() {
        let upstream = Upstream::start().await;
        let digest = upstream.blob("library/app", blob(SIZE, 10 + nth as u64));
        let gate = Gate::closed();
        let first = blobs().get().unranged().once().header("etag", "\"one\"");
        upstream.script(first.stall_after(HELD_AT, &gate));
        upstream.script(lie(blobs().get().ranged().always()));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let mut reader = open(&mirror.client(), &path_of(&digest)).await;
        let mut given = take(&mut reader, usize::try_from(HELD_AT).unwrap()).await;
        upstream.wait_for(1, blobs().get().ranged()).await;
        gate.open();
        let (more, complete) = rest(&mut reader).await;
        given.extend(more);
        assert!(complete && sha256(&given) == digest, "lie {nth}");
        assert_eq!(mismatches(&mirror), 0);
    }
}

/// Nobody can tell which part it was: once more over one connection, and nobody is blamed before that.
#[tokio::test]
async fn t16_a_part_with_wrong_bytes_is_cut_and_the_blob_fetched_anew_over_one_connection() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 20);
    let digest = upstream.blob("library/app", &content);
    let _held = hold_the_first(&upstream);
    let wrong = upstream.script(blobs().get().ranged().always().wrong_byte_at(20 * MIB));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut first = open(&mirror.client(), &path_of(&digest)).await;
    let (given, complete) = rest(&mut first).await;
    assert!(!complete && (given.len() as u64) <= SIZE - super::WITHHELD as u64, "{}", given.len());
    wrong.revoke();
    let again = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((sha256(&again.body), mismatches(&mirror)), (digest.clone(), 0));
    quiet(&mirror).await;
    assert_eq!(upstream.requests_of(&blobs().get().unranged()).len(), 2);
}

#[tokio::test]
async fn a_part_whose_connection_breaks_is_fetched_by_another() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 21));
    let _held = hold_the_first(&upstream);
    upstream.script(blobs().get().ranged().nth(1).once().cut_after(100_000));
    upstream.script(blobs().get().ranged().nth(2).once().cut_before_headers());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((sha256(&answer.body), mismatches(&mirror)), (digest, 0));
}

#[tokio::test]
async fn further_connections_leave_places_for_downloads_that_begin() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/large", blob(SIZE, 22));
    let gate = Gate::closed();
    upstream.script(blobs().get().repository("library/large").always().stall_after(HELD_AT, &gate));
    let mirror = Mirror::start(one(&upstream, "max_connections = 4")).await;
    let (client, path) = (mirror.client(), super::path_in("library/large", &digest));
    let large = tokio::spawn(async move { sha256(&client.get(&path).await.body) });
    gate.arrived_times(2).await;
    let small = upstream.blob("library/app", blob(1000, 23));
    assert_eq!(mirror.client().get(&path_of(&small)).await.status, 200);
    gate.open();
    assert_eq!(large.await.unwrap(), digest);
}

/// Bytes behind a gap are not trusted after a stop.
#[tokio::test]
async fn after_a_stop_only_the_part_without_gaps_counts() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 24);
    let digest = upstream.blob("library/app", &content);
    let gate = hold_the_first(&upstream);
    let early = blobs().get().ranged().when(|request| request.range_start().is_some_and(|start| start < 20 * MIB));
    let early = upstream.script(early.always().stall_before_headers(&gate));
    let toml = one(&upstream, "");
    let mirror = Mirror::builder(toml).shutdown_deadline("100ms").start().await;
    let mut ahead = open_range(&mirror.client(), &path_of(&digest), &format!("{}-", 30 * MIB)).await;
    take(&mut ahead, 1000).await;
    drop(ahead);
    let stopped = mirror.stop().await;
    early.revoke();
    upstream.forget_requests();
    let mirror = stopped.start().await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((sha256(&answer.body), mismatches(&mirror)), (digest, 0));
    let first = upstream.requests_of(&blobs().get())[0].range_start();
    assert!(first.is_some_and(|start| (1..=20 * MIB).contains(&start)), "{first:?}");
}
