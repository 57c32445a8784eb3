//! Clients that follow referrers ask about each that a list names.

use super::{LATER, QUICK, REPOSITORY, tag};
use crate::support::eventually;
use crate::support::image::{artifact, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn referrers(mirror: &Mirror, digest: &str) -> (u16, usize) {
    let answer = mirror.client().get(&format!("/v2/{REPOSITORY}/referrers/{digest}")).await;
    let count = if answer.status == 200 { answer.json()["manifests"].as_array().unwrap().len() } else { 0 };
    (answer.status, count)
}

#[tokio::test]
async fn the_empty_list_of_what_a_recorded_list_names_is_served_in_an_outage() {
    let registry = Upstream::start().await;
    let image = image(&[blob(100, 1)]);
    let signature = artifact(&image, "application/vnd.example.signature", blob(100, 2));
    registry.publish(REPOSITORY, "1", &image);
    registry.put_referrer(REPOSITORY, &signature);
    let mirror = Mirror::start(super::upstream(&registry, QUICK)).await;
    // As `oras discover` asks: for the image, then for what it was told.
    for (digest, count) in [(&image.digest, 1), (&signature.digest, 0)] {
        assert_eq!(referrers(&mirror, digest).await, (200, count));
    }
    registry.stop().await;
    mirror.advance(LATER);
    for (digest, count) in [(&image.digest, 1), (&signature.digest, 0)] {
        assert_eq!(referrers(&mirror, digest).await, (200, count));
    }
    let unknown = sha256(b"nobody names it");
    assert_eq!(referrers(&mirror, &unknown).await.0, 502);
}

#[tokio::test]
async fn the_empty_list_of_an_image_of_a_held_index_is_served_in_an_outage() {
    let registry = Upstream::start().await;
    let child = image(&[blob(100, 1)]);
    registry.publish(REPOSITORY, "1", &index(&[&child]));
    let mirror = Mirror::start(super::upstream(&registry, QUICK)).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    let is_stored = async || mirror.inner().cache().counts().await.is_ok_and(|counts| counts.blobs == 1);
    eventually("the index is stored", is_stored).await;
    assert_eq!(referrers(&mirror, &child.digest).await, (200, 0));
    registry.stop().await;
    mirror.advance(LATER);
    assert_eq!(referrers(&mirror, &child.digest).await, (200, 0));
}
