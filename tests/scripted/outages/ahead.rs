//! Blobs that are stored for one repository are proved for another before somebody asks.

use super::{QUICK, REPOSITORY, ahead_of_need, blob_status, tag};
use crate::support::eventually;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const PROOFS: &str = "roadstead_completed_total{authority=\"docker.io\",what=\"proof\",result=\"obtained\"}";

/// Two images in two repositories that share their base layer.
fn publish(registry: &Upstream) -> (Image, Image, String) {
    let base = blob(100_000, 1);
    let (first, second) = (image(std::slice::from_ref(&base)), image(&[base.clone(), blob(1000, 2)]));
    registry.publish("org/first", "1", &first);
    registry.publish(REPOSITORY, "1", &second);
    (first, second, base.sha256())
}

async fn pull_all_but(mirror: &Mirror, image: &Image, left_out: &str) {
    assert_eq!(tag(mirror, REPOSITORY, "1").await, 200);
    for part in std::iter::once(image.config()).chain(image.layers()).filter(|part| part.digest != left_out) {
        assert_eq!(blob_status(mirror, REPOSITORY, &part.digest).await, 200);
    }
}

#[tokio::test]
async fn a_layer_that_is_stored_for_another_repository_is_proved_ahead_of_need() {
    let registry = Upstream::start().await;
    let (_, second, base) = publish(&registry);
    let mirror = ahead_of_need(&registry, QUICK).await;
    mirror.pull_whole("org/first", "1").await;
    // As from a node that has the base layer already.
    pull_all_but(&mirror, &second, &base).await;
    eventually("the base layer is proved", async || mirror.metric(PROOFS) >= 1.0).await;
    assert_eq!(registry.gets_of(&base), 1, "a proof is no download");
    registry.stop().await;
    assert_eq!(blob_status(&mirror, REPOSITORY, &base).await, 200, "the next, empty node");
}

#[tokio::test]
async fn a_layer_that_is_stored_later_is_proved_for_those_who_list_it() {
    let registry = Upstream::start().await;
    let (_, second, base) = publish(&registry);
    let mirror = ahead_of_need(&registry, QUICK).await;
    pull_all_but(&mirror, &second, &base).await;
    mirror.pull_whole("org/first", "1").await;
    eventually("the base layer is proved", async || mirror.metric(PROOFS) >= 1.0).await;
    registry.stop().await;
    assert_eq!(blob_status(&mirror, REPOSITORY, &base).await, 200);
}

#[tokio::test]
async fn after_a_restart_what_is_not_yet_proved_is_found() {
    let registry = Upstream::start().await;
    let (_, second, base) = publish(&registry);
    let never = Mirror::start(super::upstream(&registry, QUICK)).await;
    never.pull_whole("org/first", "1").await;
    pull_all_but(&never, &second, &base).await;
    let toml = super::upstream(&registry, QUICK);
    let mirror = never.stop().await.start_completing(toml).await;
    eventually("the base layer is proved", async || mirror.metric(PROOFS) >= 1.0).await;
    registry.stop().await;
    assert_eq!(blob_status(&mirror, REPOSITORY, &base).await, 200);
}

#[tokio::test]
async fn a_manifest_that_lists_a_digest_proves_nothing() {
    let registry = Upstream::start().await;
    let (_, second, base) = publish(&registry);
    let mirror = ahead_of_need(&registry, QUICK).await;
    mirror.pull_whole("org/first", "1").await;
    registry.remove_blob(REPOSITORY, &base);
    pull_all_but(&mirror, &second, &base).await;
    let refused = "roadstead_completed_total{authority=\"docker.io\",what=\"proof\",result=\"refused\"}";
    eventually("upstream has said no", async || mirror.metric(refused) >= 1.0).await;
    registry.stop().await;
    assert_ne!(blob_status(&mirror, REPOSITORY, &base).await, 200, "upstream does not serve it there");
}

#[tokio::test]
async fn the_background_waits_while_a_client_downloads() {
    let registry = Upstream::start().await;
    let (_, second, base) = publish(&registry);
    let other = registry.blob("org/other", blob(3_000_000, 9));
    let gate = Gate::closed();
    registry.script(blobs().reference(&other).get().always().stall_after(1_000_000, &gate));
    let mirror = ahead_of_need(&registry, QUICK).await;
    mirror.pull_whole("org/first", "1").await;
    let client = mirror.client();
    let path = format!("/v2/org/other/blobs/{other}");
    let download = tokio::spawn(async move { client.get(&path).await.status });
    gate.arrived().await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    for part in std::iter::once(second.config()).chain(second.layers()).filter(|part| part.digest != base) {
        assert_eq!(blob_status(&mirror, REPOSITORY, &part.digest).await, 200);
    }
    assert_eq!(mirror.metric(PROOFS), 0.0, "a client is served");
    gate.open();
    assert_eq!(download.await.unwrap(), 200);
    eventually("the base layer is proved", async || mirror.metric(PROOFS) >= 1.0).await;
}
