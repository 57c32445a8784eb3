//! A tag inside its `tag_ttl`, and the one check when that has passed.

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1";

async fn one() -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, "tag_ttl = \"1m\"")).await;
    (registry, mirror, app)
}

fn checks(mirror: &Mirror, result: &str) -> f64 {
    mirror.metric(&format!("roadstead_revalidations_total{{authority=\"docker.io\",result=\"{result}\"}}"))
}

#[tokio::test]
async fn inside_its_ttl_a_tag_costs_no_upstream_request() {
    let (registry, mirror, app) = one().await;
    let client = mirror.client();
    let cold = client.get(TAG).await;
    assert_eq!((cold.header("cache-status"), cold.header("age")), ("roadstead; fwd=miss; stored", "0"));
    registry.forget_requests();
    mirror.advance(Duration::from_secs(59));
    for method in [Method::GET, Method::HEAD] {
        let warm = client.send(method, TAG, &[]).await;
        assert_eq!((warm.status, warm.header("docker-content-digest")), (200, app.digest.as_str()));
        assert_eq!((warm.header("cache-status"), warm.header("age")), ("roadstead; hit", "59"));
        assert!(!warm.headers.contains_key("warning"));
    }
    assert_eq!(client.get(&format!("/v2/org/app/manifests/{}", app.digest)).await.status, 200);
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn behind_its_ttl_a_tag_that_stayed_costs_one_head() {
    let (registry, mirror, app) = one().await;
    let client = mirror.client();
    client.get(TAG).await;
    registry.forget_requests();
    mirror.advance(Duration::from_mins(1));
    let checked = client.get(TAG).await;
    assert_eq!((checked.status, &checked.body, checked.header("age")), (200, &app.manifest, "0"));
    assert_eq!(client.get(TAG).await.header("cache-status"), "roadstead; hit");
    let methods: Vec<_> = registry.requests().iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, [Method::HEAD], "a HEAD spares the ration, and stamps the tag");
    assert_eq!((checks(&mirror, "unchanged"), checks(&mirror, "changed")), (1.0, 0.0));
}

#[tokio::test]
async fn a_tag_that_moved_is_fetched_by_the_digest_that_head_named() {
    let (registry, mirror, _app) = one().await;
    let client = mirror.client();
    client.get(TAG).await;
    let newer = image(&[blob(10, 2)]);
    registry.publish("org/app", "1", &newer);
    registry.forget_requests();
    mirror.advance(Duration::from_mins(1));
    assert_eq!(client.get(TAG).await.body, newer.manifest);
    let asked: Vec<_> = registry.requests().iter().map(|r| (r.method.clone(), r.reference.clone().unwrap())).collect();
    assert_eq!(asked, [(Method::HEAD, "1".to_owned()), (Method::GET, newer.digest.clone())]);
    assert_eq!((checks(&mirror, "unchanged"), checks(&mirror, "changed")), (0.0, 1.0));
}

#[tokio::test]
async fn a_tag_that_moved_to_what_is_held_costs_no_get() {
    let (registry, mirror, _app) = one().await;
    let client = mirror.client();
    client.get(TAG).await;
    let other = image(&[blob(10, 2)]);
    registry.publish("org/app", "2", &other);
    assert_eq!(client.get("/v2/org/app/manifests/2").await.status, 200);
    registry.tag("org/app", "1", &other.digest);
    registry.forget_requests();
    mirror.advance(Duration::from_mins(1));
    assert_eq!(client.get(TAG).await.body, other.manifest);
    assert_eq!(registry.count(Method::GET, Kind::Manifest), 0);
    assert_eq!((checks(&mirror, "unchanged"), checks(&mirror, "changed")), (0.0, 1.0), "it did move");
}

#[tokio::test]
async fn all_who_ask_for_one_tag_share_one_check() {
    let (registry, mirror, app) = one().await;
    for cold in [true, false] {
        let gate = Gate::closed();
        let asked = if cold { manifests().get() } else { manifests().head() };
        registry.script(asked.once().stall_before_headers(&gate));
        registry.forget_requests();
        let client = mirror.client();
        let pull = || {
            let client = client.clone();
            tokio::spawn(async move { client.get(TAG).await })
        };
        let first = pull();
        gate.arrived().await;
        let others: Vec<_> = (0..20).map(|_| pull()).collect();
        mirror.wait_for_requests_in_flight(21).await;
        gate.open();
        let mut statuses = std::collections::BTreeSet::new();
        for pull in others.into_iter().chain([first]) {
            let answer = pull.await.unwrap();
            assert_eq!((answer.status, &answer.body), (200, &app.manifest));
            statuses.insert(answer.header("cache-status").to_owned());
        }
        assert_eq!(registry.count(Method::HEAD, Kind::Manifest), usize::from(!cold), "cold: {cold}");
        assert_eq!(registry.count(Method::GET, Kind::Manifest), usize::from(cold), "cold: {cold}");
        assert_eq!(statuses.contains("roadstead; fwd=miss; collapsed"), cold, "{statuses:?}");
        mirror.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_check() {
    let (registry, mirror, app) = one().await;
    let gate = Gate::closed();
    registry.script(manifests().get().once().stall_before_headers(&gate));
    let client = mirror.client();
    let leaver = tokio::spawn({
        let client = client.clone();
        async move { client.get(TAG).await }
    });
    gate.arrived().await;
    leaver.abort();
    gate.open();
    assert_eq!(client.get(TAG).await.body, app.manifest);
    assert_eq!(registry.count(Method::HEAD, Kind::Manifest), 0);
    assert_eq!(registry.count(Method::GET, Kind::Manifest), 1);
}

#[tokio::test]
async fn what_is_known_outlives_a_restart() {
    let (registry, mirror, app) = one().await;
    mirror.client().get(TAG).await;
    let mirror = mirror.restart().await;
    registry.forget_requests();
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.body.clone(), answer.header("cache-status")), (app.manifest, "roadstead; hit"));
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_tag_ttl_of_zero_checks_every_request() {
    let (registry, _mirror, app) = one().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "tag_ttl = \"0s\"")).await;
    for pull in 0..3 {
        assert_eq!(mirror.client().get(TAG).await.body, app.manifest);
        assert_eq!(registry.count(Method::HEAD, Kind::Manifest), pull);
    }
    assert_eq!(registry.count(Method::GET, Kind::Manifest), 1);
}

#[tokio::test]
async fn one_missing_by_digest_is_fetched_once_for_all() {
    let (registry, mirror, app) = one().await;
    let gate = Gate::closed();
    registry.script(manifests().get().once().stall_before_headers(&gate));
    let client = mirror.client();
    let path = format!("/v2/org/app/manifests/{}", app.digest);
    let pulls: Vec<_> = (0..10)
        .map(|_| {
            let (client, path) = (client.clone(), path.clone());
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(10).await;
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap().body, app.manifest);
    }
    assert_eq!(registry.requests().len(), 1);
}
