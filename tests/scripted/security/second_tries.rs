//! A failure of a moment at the only endpoint, and what the second try costs in an outage.

use std::time::Duration;

use http::Method;

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const FAILURES: [(&str, fn(Step) -> Step); 4] = [
    ("500", |step| step.status(500)),
    ("503", |step| step.status(503)),
    ("cut", Step::cut_before_headers),
    ("cut in the body", |step| step.cut_after(5)),
];

#[tokio::test]
async fn a_failure_of_a_moment_at_the_only_endpoint_fails_no_pull() {
    for (name, failure) in FAILURES {
        let upstream = Upstream::start().await;
        let app = publish_app(&upstream);
        let layer = blob_path("library/app", &app.layers()[0].digest);
        let mirror = Mirror::start(hub(upstream.url(), "")).await;
        upstream.script(failure(manifests().once()));
        upstream.script(failure(blobs().once()));
        assert_eq!(mirror.client().get(APP).await.status, 200, "{name}");
        assert_eq!(mirror.client().get(&layer).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_token_server_that_fails_for_a_moment_fails_no_pull() {
    for (name, failure) in FAILURES {
        let upstream = Upstream::start().await;
        upstream.token_auth(&TokenAuth::new());
        publish_app(&upstream);
        let mirror = Mirror::start(hub(upstream.url(), "")).await;
        upstream.script(failure(tokens().once()));
        assert_eq!(mirror.client().get(APP).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn the_target_of_a_redirect_that_fails_for_a_moment_fails_no_pull() {
    for (name, failure) in FAILURES {
        let (registry, store) = (Upstream::start().await, Upstream::start().await);
        let content = blob(1000, 1);
        let digest = registry.blob("org/app", &content);
        store.blob("org/app", &content);
        registry.script(blobs().always().redirect_to(&store));
        store.script(failure(blobs().once()));
        let mirror = Mirror::start(hub(registry.url(), "")).await;
        let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
        assert_eq!((answer.status, sha256(&answer.body)), (200, digest), "{name}");
    }
}

#[tokio::test]
async fn t45_a_hundred_clients_of_an_upstream_that_fails_cost_two_requests() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(manifests().always().stall_before_headers(&gate).status(503));
    let client = mirror.client();
    let pulls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get(APP).await.status })
        })
        .collect();
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(100).await;
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 502);
    }
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(mirror.metric("roadstead_upstream_second_tries_total{authority=\"docker.io\"}"), 1.0);
}

#[tokio::test]
async fn a_held_tag_is_served_stale_without_a_second_try() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("library/app", "v1").await;
    mirror.advance(Duration::from_mins(1));
    upstream.forget_requests();
    upstream.script(manifests().always().status(503));
    let answer = mirror.client().get(APP).await;
    assert!(answer.header("warning").starts_with("299 - "), "{answer:?}");
    for method in [Method::HEAD, Method::GET] {
        assert!(upstream.count(method.clone(), Kind::Manifest) <= 1, "{method} was repeated");
    }
}

#[tokio::test]
async fn a_ration_and_what_an_upstream_says_for_good_are_not_asked_again() {
    for status in [403, 404, 429, 451, 501] {
        let upstream = Upstream::start().await;
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        upstream.script(manifests().always().status(status));
        assert!(mirror.client().get(APP).await.status >= 400);
        assert_eq!(upstream.requests().len(), 1, "{status}");
    }
}
