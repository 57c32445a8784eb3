//! No response that reaches the last byte completes unproven.

use std::time::Duration;

use super::{WITHHELD, mismatches, one, open, open_range, partial_files, path_of, quiet, rest, stored_files, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 500_000;

#[tokio::test]
async fn t16_a_lie_is_cut_before_the_withheld_tail_whatever_range_was_asked() {
    let asked = [
        (None, 0, SIZE),
        (Some("1000-"), 1000, SIZE),
        (Some("-10"), SIZE - 10, SIZE),
        (Some("434465-434465"), 434_465, 434_466),
        (Some("434464-434464"), 434_464, 434_465),
    ];
    for (nth, (range, first, end)) in asked.into_iter().enumerate() {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, nth as u64);
        let digest = upstream.blob("library/app", &content);
        // In front of the tail: whoever proves the tail alone does not see it.
        let gate = Gate::closed();
        upstream.script(blobs().get().once().wrong_byte_at(5).stall_after(SIZE - 1, &gate));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let mut response = match range {
            None => open(&mirror.client(), &path_of(&digest)).await,
            Some(range) => open_range(&mirror.client(), &path_of(&digest), range).await,
        };
        let expected = (SIZE - WITHHELD as u64).saturating_sub(first);
        let given = take(&mut response, usize::try_from(expected).unwrap()).await;
        gate.open();
        let (more, complete) = rest(&mut response).await;
        assert!(!complete, "{range:?}: {} bytes of {first}..{end}", given.len() + more.len());
        assert_eq!(given.len() + more.len(), usize::try_from(expected).unwrap(), "{range:?}");
        quiet(&mirror).await;
        assert_eq!((stored_files(&mirror), partial_files(&mirror)), (Vec::new(), Vec::new()), "{range:?}");
        assert_eq!(mismatches(&mirror), 1, "{range:?}");
    }
}

#[tokio::test]
async fn a_range_in_front_of_the_tail_needs_no_proof() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 20);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(SIZE - 1, &gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let limit = SIZE - WITHHELD as u64;
    let range = mirror.client().range(&path_of(&digest), &format!("1000-{}", limit - 1)).await;
    assert_eq!((range.status, range.body), (206, content.slice(1000, limit)));
    gate.open();
}

#[tokio::test]
async fn t16_a_lie_about_a_small_blob_is_a_clean_502() {
    for (size, clean) in [(1, true), (WITHHELD as u64, true), (WITHHELD as u64 + 1, false)] {
        let upstream = Upstream::start().await;
        let content = blob(size, 30);
        let digest = upstream.blob("library/app", &content);
        let gate = Gate::closed();
        upstream.script(blobs().get().once().wrong_byte_at(0).stall_after(WITHHELD as u64, &gate));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let mut response = open(&mirror.client(), &path_of(&digest)).await;
        if clean {
            assert_eq!(response.status(), 502, "{size}");
            let (body, complete) = rest(&mut response).await;
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(complete && body["errors"][0]["message"].as_str().unwrap().contains("digest"), "{body}");
        } else {
            assert_eq!(response.status(), 200, "{size}");
            assert_eq!(take(&mut response, 1).await.len(), 1, "all but the tail");
            gate.open();
            assert_eq!(rest(&mut response).await, (Vec::new(), false));
        }
        quiet(&mirror).await;
        assert_eq!((stored_files(&mirror), partial_files(&mirror)), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn after_a_lie_the_endpoint_is_left_alone_for_ten_seconds_for_that_digest() {
    let upstream = Upstream::start().await;
    let content = blob(40_000, 40);
    let (digest, other) = (upstream.blob("library/app", &content), upstream.blob("library/app", blob(50, 1)));
    upstream.script(blobs().get().once().wrong_byte_at(39_999));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    for round in 0..3 {
        assert_eq!(client.get(&path_of(&digest)).await.status, 502, "{round}");
    }
    assert_eq!((upstream.gets_of(&digest), mismatches(&mirror)), (1, 1));
    assert_eq!(client.get(&path_of(&other)).await.status, 200, "other digests are its own business");
    mirror.advance(Duration::from_secs(11));
    let answer = client.get(&path_of(&digest)).await;
    assert_eq!((answer.status, answer.body), (200, content.to_bytes()));
    assert_eq!(upstream.gets_of(&digest), 2);
}

#[tokio::test]
async fn a_lie_of_one_endpoint_is_made_good_by_the_next() {
    let (liar, honest) = (Upstream::start().await, Upstream::start().await);
    for (size, seed) in [(40_000, 50), (SIZE, 51)] {
        let content = blob(size, seed);
        let digest = liar.blob("library/app", &content);
        honest.blob("library/app", &content);
        liar.script(blobs().get().once().wrong_byte_at(7));
        let toml = format!("[upstreams.\"docker.io\"]\nendpoints = [\"{}\", \"{}\"]\n", liar.url(), honest.url());
        let mirror = Mirror::start(toml).await;
        let mut first = open(&mirror.client(), &path_of(&digest)).await;
        let (given, complete) = rest(&mut first).await;
        // A small one waited whole, and nothing of the lie was seen; a large one had begun.
        assert_eq!((first.status().as_u16(), complete), (200, size == 40_000), "{size}");
        assert!(!complete || given == content.to_bytes());
        let second = mirror.client().get(&path_of(&digest)).await;
        assert!(second.body == content.to_bytes());
        assert_eq!((liar.gets_of(&digest), honest.gets_of(&digest)), (1, 1), "{size}");
    }
}

#[tokio::test]
async fn t16_bodies_that_are_not_the_blob_leave_nothing_behind() {
    type Lie = fn(Step) -> Step;
    let lies: [(&str, Lie); 7] = [
        ("one byte more", |step| step.extra_byte()),
        ("a cut body that looks whole", |step| step.truncated_to(30_000)),
        ("a page for people", |step| step.html()),
        ("other content", |step| step.content(blob(60_000, 99))),
        ("compressed", |step| step.gzip()),
        ("one byte more, without a length", |step| step.extra_byte().chunked()),
        ("nothing at all", |step| step.body("")),
    ];
    for (what, lie) in lies {
        for size in [60_000, 300_000] {
            let upstream = Upstream::start().await;
            let content = blob(size, 60);
            let digest = upstream.blob("library/app", &content);
            upstream.script(lie(blobs().get().unranged().up_to(2)));
            let mirror = Mirror::start(one(&upstream, "")).await;
            let mut response = open(&mirror.client(), &path_of(&digest)).await;
            let (given, complete) = rest(&mut response).await;
            assert!(!complete || response.status() == 502, "{what}, {size}: {} {given:?}", response.status());
            quiet(&mirror).await;
            assert_eq!((stored_files(&mirror), partial_files(&mirror)), (Vec::new(), Vec::new()), "{what}, {size}");
            upstream.clear_script();
            mirror.advance(Duration::from_secs(11));
            let healed = mirror.client().get(&path_of(&digest)).await;
            assert_eq!(sha256(&healed.body), digest, "{what}, {size}");
        }
    }
}
