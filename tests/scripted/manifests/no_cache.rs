//! `Cache-Control: no-cache` of a client: a check before its time, where that is wanted.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;

use super::upstream;
use crate::support::client::{Answer, Client};
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1";

async fn one(keys: &str) -> (Upstream, Mirror) {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::start(upstream("docker.io", &registry, &format!("tag_ttl = \"1h\"\n{keys}"))).await;
    assert_eq!(mirror.client().get(TAG).await.status, 200);
    mirror.advance(Duration::from_secs(2));
    registry.forget_requests();
    (registry, mirror)
}

async fn ask(client: &Client, said: &str) -> Answer {
    client.send(Method::GET, TAG, &[("cache-control", said)]).await
}

#[tokio::test]
async fn no_cache_has_a_tag_checked_at_most_once_a_second() {
    let (registry, mirror) = one("honour_no_cache = true").await;
    let client = mirror.client();
    let moved = image(&[blob(10, 2)]);
    registry.publish("org/app", "1", &moved);
    assert_ne!(client.get(TAG).await.body, moved.manifest, "the tag is fresh");
    assert!(registry.requests().is_empty());
    assert_eq!(ask(&client, "max-age=0").await.body, moved.manifest);
    registry.forget_requests();
    for said in ["no-cache", "max-age=0", "no-store, No-Cache"] {
        assert_eq!(ask(&client, said).await.header("cache-status"), "roadstead; hit", "{said}: checked a moment ago");
        mirror.advance(Duration::from_millis(300));
    }
    assert!(registry.requests().is_empty());
    mirror.advance(Duration::from_secs(1));
    let answer = ask(&client, "no-cache").await;
    assert_eq!((answer.status, answer.header("cache-status")), (200, "roadstead; fwd=stale; fwd-status=304"));
    assert_eq!(registry.requests().len(), 1);
    assert_eq!(ask(&client, "max-age=60").await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn t58_a_hundred_clients_that_want_a_check_share_one() {
    let (registry, mirror) = one("honour_no_cache = true").await;
    let gate = Gate::closed();
    registry.script(manifests().once().stall_before_headers(&gate));
    let client = mirror.client();
    let asking = tokio::spawn(async move { join_all((0..100).map(|_| ask(&client, "no-cache"))).await });
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(100).await;
    gate.open();
    assert!(asking.await.unwrap().iter().all(|answer| answer.status == 200));
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn unless_it_is_wanted_no_cache_changes_nothing() {
    for keys in ["", "honour_no_cache = true\n[[upstreams.\"docker.io\".freshness]]\nimmutable = true"] {
        let (registry, mirror) = one(keys).await;
        assert_eq!(ask(&mirror.client(), "no-cache").await.header("cache-status"), "roadstead; hit", "{keys}");
        assert!(registry.requests().is_empty(), "{keys}");
    }
}

#[tokio::test]
async fn a_check_that_a_client_wanted_and_that_fails_leaves_the_copy_in_use() {
    let (registry, mirror) = one("honour_no_cache = true").await;
    mirror.pull_whole("org/app", "1").await;
    registry.stop().await;
    let answer = ask(&mirror.client(), "no-cache").await;
    assert_eq!(
        (answer.status, answer.header("cache-status")),
        (200, "roadstead; hit; fwd=stale; detail=\"served stale\"")
    );
}
