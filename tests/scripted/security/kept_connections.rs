//! Connections to an upstream that were kept, and are closed or dead when they are used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{blob_path, hub};
use crate::support::chaos::Chaos;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SECOND_TRIES: &str = "roadstead_upstream_second_tries_total{authority=\"docker.io\"}";

/// Every request but the first of its connection.
fn on_a_kept_connection(requests: Matcher) -> Matcher {
    let first: Mutex<HashMap<usize, usize>> = Mutex::default();
    requests.when(move |request| {
        let this = Arc::as_ptr(&request.progress) as usize;
        *first.lock().unwrap().entry(request.at_connection).or_insert(this) != this
    })
}

fn manifest_path(nth: usize) -> String {
    format!("/v2/org/app{nth}/manifests/1")
}

#[tokio::test]
async fn a_kept_connection_that_ends_unanswered_fails_no_pull() {
    let ca = TestCa::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    for tls in [false, true] {
        let upstream =
            if tls { Upstream::builder().tls(&ca).http1_only().start().await } else { Upstream::start().await };
        upstream.token_auth(&TokenAuth::new());
        let app = image(&[blob(100_000, 1)]);
        for nth in 0..6 {
            upstream.publish(&format!("org/app{nth}"), "1", &app);
        }
        upstream.script(on_a_kept_connection(every_request()).unauthorized_too().always().cut_before_headers());
        let lines = if tls { format!("ca = \"{}\"", file.display()) } else { String::new() };
        let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
        for nth in 0..6 {
            assert_eq!(mirror.client().get(&manifest_path(nth)).await.status, 200, "{nth}");
            let layer = blob_path(&format!("org/app{nth}"), &app.layers()[0].digest);
            assert_eq!(mirror.client().get(&layer).await.status, 200, "{nth}");
        }
        assert_eq!(mirror.metric(SECOND_TRIES), 0.0, "it is sent again at once, without a pause");
    }
}

/// As behind a firewall that has forgotten its connections: nothing is refused, and nothing comes.
#[tokio::test]
async fn dead_connections_that_were_kept_fail_no_manifest_and_only_the_first_one_waits() {
    let upstream = Upstream::start().await;
    for nth in 0..12 {
        upstream.publish(&format!("org/app{nth}"), "1", &image(&[blob(10, nth)]));
    }
    let chaos = Chaos::in_front_of(upstream.address());
    let url = format!("http://{}", chaos.address());
    let mirror = Mirror::start(hub(url, "response_timeout = \"3s\"")).await;
    let gate = Gate::closed();
    let held = upstream.script(manifests().always().stall_before_headers(&gate));
    let pulls: Vec<_> = (0..6)
        .map(|nth| {
            let client = mirror.client();
            tokio::spawn(async move { client.get(&manifest_path(nth)).await.status })
        })
        .collect();
    gate.arrived_times(6).await;
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
    held.revoke();
    chaos.deaden();
    for nth in 6..12 {
        assert_eq!(mirror.client().get(&manifest_path(nth)).await.status, 200, "{nth}");
    }
    assert!(chaos.connections() <= 6 + 2, "one beside the dead one, and one that is kept: {}", chaos.connections());
}

#[tokio::test]
async fn a_dead_connection_that_was_kept_fails_no_blob() {
    let upstream = Upstream::start().await;
    let digests: Vec<_> = (0..3).map(|seed| upstream.blob("org/app", blob(1000, seed))).collect();
    let chaos = Chaos::in_front_of(upstream.address());
    let mirror = Mirror::start(hub(format!("http://{}", chaos.address()), "response_timeout = \"2s\"")).await;
    for (nth, digest) in digests.iter().enumerate() {
        assert_eq!(mirror.client().get(&blob_path("org/app", digest)).await.status, 200, "{nth}");
        chaos.deaden();
    }
}

#[tokio::test]
async fn the_silence_of_a_kept_connection_alone_opens_no_breaker() {
    let upstream = Upstream::start().await;
    for nth in 0..4 {
        upstream.publish(&format!("org/app{nth}"), "1", &image(&[blob(10, nth)]));
    }
    let chaos = Chaos::in_front_of(upstream.address());
    let mirror = Mirror::start(hub(format!("http://{}", chaos.address()), "response_timeout = \"2s\"")).await;
    let get = async |nth| mirror.client().get(&manifest_path(nth)).await.status;
    assert_eq!(get(0).await, 200);
    let slow = upstream.script(manifests().always().delay(Duration::from_millis(1300)));
    assert_eq!(get(1).await, 200);
    slow.revoke();
    assert_eq!(get(2).await, 200);
    chaos.deaden();
    assert_eq!(get(3).await, 504, "the upstream was slow: nothing is asked twice");
    assert_eq!(get(3).await, 200, "on a new connection, at once");
}

#[tokio::test]
async fn t45_an_upstream_that_is_slow_is_asked_twice_once_and_not_each_time() {
    let upstream = Upstream::start().await;
    for nth in 0..4 {
        upstream.publish(&format!("org/app{nth}"), "1", &image(&[blob(10, nth)]));
    }
    let mirror = Mirror::start(hub(upstream.url(), "response_timeout = \"2s\"")).await;
    assert_eq!(mirror.client().get(&manifest_path(0)).await.status, 200);
    upstream.forget_requests();
    upstream.script(manifests().always().delay(Duration::from_millis(1300)));
    for nth in 1..4 {
        assert_eq!(mirror.client().get(&manifest_path(nth)).await.status, 200, "{nth}");
    }
    assert!(upstream.requests().len() <= 3 + 1, "{}", upstream.requests().len());
}
