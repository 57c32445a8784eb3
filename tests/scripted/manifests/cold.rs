//! The upstream requests of a tag that is not stored.

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::client::Answer;
use crate::support::image::{Image, image};
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1?ns=quay.io";

async fn one(lines: &str) -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("quay.io", &registry, lines)).await;
    (registry, mirror, app)
}

fn asked(registry: &Upstream) -> Vec<(Method, String)> {
    registry.requests().into_iter().map(|request| (request.method, request.reference.unwrap())).collect()
}

fn has(answer: &Answer, app: &Image) {
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, app.digest.as_str()));
}

#[tokio::test]
async fn a_tag_that_is_not_held_costs_one_request() {
    for method in [Method::GET, Method::HEAD] {
        let (registry, mirror, app) = one("").await;
        let cold = mirror.client().send(method.clone(), TAG, &[]).await;
        has(&cold, &app);
        assert_eq!(cold.header("cache-status"), "roadstead; fwd=miss; stored");
        assert_eq!(asked(&registry), [(Method::GET, "1".to_owned())], "{method}");
        registry.forget_requests();
        mirror.advance(Duration::from_mins(2));
        has(&mirror.client().get(TAG).await, &app);
        assert_eq!(asked(&registry), [(Method::HEAD, "1".to_owned())], "once it is held, HEAD spares the body");
    }
}

#[tokio::test]
async fn a_tag_whose_manifest_is_gone_costs_one_request() {
    let (registry, mirror, app) = one("").await;
    has(&mirror.client().get(TAG).await, &app);
    let stopped = mirror.stop().await;
    for path in files_below(&stopped.storage().join("blobs")) {
        std::fs::remove_file(path).unwrap();
    }
    registry.forget_requests();
    let mirror = stopped.start_with(upstream("quay.io", &registry, "")).await;
    has(&mirror.client().get(TAG).await, &app);
    assert_eq!(asked(&registry), [(Method::GET, "1".to_owned())]);
}

#[tokio::test]
async fn another_repositorys_manifest_is_granted_by_the_one_request_and_not_stored_again() {
    let (registry, mirror, app) = one("").await;
    registry.publish("org/copy", "1", &app);
    has(&mirror.client().get(TAG).await, &app);
    registry.forget_requests();
    has(&mirror.client().get("/v2/org/copy/manifests/1?ns=quay.io").await, &app);
    assert_eq!(asked(&registry), [(Method::GET, "1".to_owned())]);
    registry.forget_requests();
    has(&mirror.client().get(&format!("/v2/org/copy/manifests/{}?ns=quay.io", app.digest)).await, &app);
    assert_eq!(asked(&registry), []);
}

#[tokio::test]
async fn an_upstream_that_rations_is_asked_what_a_tag_is_where_another_tag_may_be_the_same() {
    // Docker Hub is known to ration.
    for (name, lines) in [("quay.io", "rations = true"), ("docker.io", "")] {
        let (registry, _mirror, app) = one("").await;
        let mirror = Mirror::start(upstream(name, &registry, lines)).await;
        let get = async |tag: &str| mirror.client().get(&format!("/v2/org/app/manifests/{tag}?ns={name}")).await;
        has(&get("1").await, &app);
        assert_eq!(asked(&registry), [(Method::GET, "1".to_owned())], "nothing is held that HEAD could spare");
        registry.forget_requests();
        registry.publish("org/app", "same", &app);
        has(&get("same").await, &app);
        assert_eq!(asked(&registry), [(Method::HEAD, "same".to_owned())], "what is held is not fetched");
        registry.forget_requests();
        let newer = image(&[blob(10, 2)]);
        registry.publish("org/app", "2", &newer);
        has(&get("2").await, &newer);
        assert_eq!(asked(&registry), [(Method::HEAD, "2".to_owned()), (Method::GET, newer.digest)]);
    }
}

#[tokio::test]
async fn an_upstream_that_tells_what_is_left_is_taken_for_one_that_rations() {
    let (registry, mirror, app) = one("").await;
    registry.script(manifests().get().once().rate_limit("100;w=21600", "76;w=21600"));
    has(&mirror.client().get(TAG).await, &app);
    assert_eq!(asked(&registry), [(Method::GET, "1".to_owned())], "nobody could know");
    registry.forget_requests();
    let newer = image(&[blob(10, 2)]);
    registry.publish("org/app", "2", &newer);
    has(&mirror.client().get("/v2/org/app/manifests/2?ns=quay.io").await, &newer);
    assert_eq!(asked(&registry), [(Method::HEAD, "2".to_owned()), (Method::GET, newer.digest)]);
}
