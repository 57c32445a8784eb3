//! Lazy pulling: the end of a layer before the layer is here.

use super::{one, open, path_in, path_of, quiet};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 6_000_000;
const UNPROVEN: &str = "roadstead; fwd=bypass; detail=\"unproven\"";

/// A mirror whose fill of the blob has begun and does not go on until the gate opens.
async fn filling(upstream: &Upstream, content: &Content, keys: &str) -> (Mirror, String, Gate) {
    let digest = upstream.blob("library/app", content);
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(1000, &gate));
    let mirror = Mirror::start(one(upstream, &format!("segments = 1\n{keys}"))).await;
    (mirror, digest, gate)
}

#[tokio::test]
async fn where_pulls_are_lazy_a_range_in_the_tail_comes_before_the_proof() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let (mirror, digest, gate) = filling(&upstream, &content, "lazy = true").await;
    let client = mirror.client();
    for (range, first, end) in
        [("-51", SIZE - 51, SIZE), ("5900000-5999999", 5_900_000, SIZE), ("5999990-5999995", 5_999_990, 5_999_996)]
    {
        let answer = client.range(&path_of(&digest), range).await;
        assert_eq!((answer.status, answer.header("cache-status")), (206, UNPROVEN), "{range}");
        assert_eq!(answer.header("cache-control"), "no-store", "{range}");
        assert!(answer.body == content.slice(first, end), "{range}");
    }
    gate.open();
    quiet(&mirror).await;
    let answer = client.range(&path_of(&digest), "-51").await;
    assert_eq!((answer.header("cache-status"), &answer.body), ("roadstead; hit", &content.slice(SIZE - 51, SIZE)));
    assert_eq!(upstream.requests_of(&blobs().get().unranged()).len(), 1, "one download, and a request for each range");
}

#[tokio::test]
async fn t16_unless_pulls_are_lazy_the_tail_waits_for_the_proof_and_long_ranges_always_do() {
    for (keys, range) in
        [("", "-51"), ("lazy = false", "-51"), ("lazy = [\"org/**\"]", "-51"), ("lazy = true", "1000000-")]
    {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 2);
        let (mirror, digest, gate) = filling(&upstream, &content, keys).await;
        let whole = open(&mirror.client(), &path_of(&digest)).await;
        let asking = tokio::spawn({
            let (client, range) = (mirror.client(), range.to_owned());
            async move { client.range(&path_of(&digest), &range).await }
        });
        mirror.wait_for_requests_in_flight(2).await;
        gate.open();
        let answer = asking.await.unwrap();
        assert!(answer.status == 206 && answer.header("cache-status") != UNPROVEN, "{keys} {range}");
        drop(whole);
    }
}

#[tokio::test]
async fn repositories_are_lazy_by_globs() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("org/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(1000, &gate));
    let mirror = Mirror::start(one(&upstream, "segments = 1\nlazy = [\"other/*\", \"org/**\"]")).await;
    let answer = mirror.client().range(&path_in("org/app", &digest), "-51").await;
    assert_eq!((answer.header("cache-status"), &answer.body), (UNPROVEN, &content.slice(SIZE - 51, SIZE)));
    gate.open();
}
