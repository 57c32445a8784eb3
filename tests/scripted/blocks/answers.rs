//! Every way to ask, held or not.

use super::*;
use crate::support::image::{Image, artifact};

#[tokio::test]
async fn t110_a_blocked_manifest_is_refused_by_tag_and_digest_and_in_every_way() {
    let site = Site::start().await;
    block(&site.mirror, &site.app.digest).await;
    refused_in_every_way(&site.mirror, &manifest("org/app", "1")).await;
    refused_in_every_way(&site.mirror, &manifest("org/app", &site.app.digest)).await;
    refused_in_every_way(&site.mirror, &manifest("org/other", &site.app.digest)).await;
    let referrers = format!("/v2/org/app/referrers/{}", site.app.digest);
    assert!(is_refused(&site.mirror.client().get(&referrers).await));
    assert_eq!(site.status("/v2/org/app/tags/list").await, 200, "names are no content");
    assert_eq!(site.status(&manifest("org/tool", "1")).await, 200);
    unblock(&site.mirror, &site.app.digest).await;
    site.mirror.pull_whole("org/app", "1").await;
}

#[tokio::test]
async fn t110_a_blocked_blob_is_refused_in_every_way_and_its_manifest_is_not() {
    let site = Site::start().await;
    block(&site.mirror, site.own()).await;
    for repository in ["org/app", "org/tool", "org/unknown"] {
        refused_in_every_way(&site.mirror, &layer(repository, site.own())).await;
    }
    assert_eq!(site.status(&manifest("org/app", "1")).await, 200);
}

#[tokio::test]
async fn t110_what_is_blocked_and_not_held_is_refused_and_not_fetched() {
    let registry = Upstream::start().await;
    let app: Image = image(&[blob(100_000, 1)]);
    registry.publish("org/app", "1", &app);
    registry.publish("org/bad", "1", &app);
    let mirror = Mirror::of("docker.io", registry.url()).await;
    block(&mirror, &app.layers()[0].digest).await;
    block(&mirror, "docker.io/org/bad").await;
    refused_in_every_way(&mirror, &layer("org/app", &app.layers()[0].digest)).await;
    refused_in_every_way(&mirror, &manifest("org/bad", "1")).await;
    refused_in_every_way(&mirror, &manifest("org/bad", &app.digest)).await;
    for path in ["/v2/org/bad/tags/list", &format!("/v2/org/bad/referrers/{}", app.digest)] {
        assert!(is_refused(&mirror.client().get(path).await), "{path}");
    }
    assert_eq!(registry.requests().len(), 0);
    let digest = app.digest.clone();
    block(&mirror, &digest).await;
    assert!(is_refused(&mirror.client().get(&manifest("org/app", "1")).await), "what the tag leads to is blocked");
}

#[tokio::test]
async fn t110_a_block_holds_in_an_outage() {
    let site = Site::start().await;
    block(&site.mirror, "docker.io/org/app:1").await;
    block(&site.mirror, &site.tool.layers()[1].digest).await;
    site.registry.stop().await;
    site.mirror.advance(std::time::Duration::from_hours(1));
    refused_in_every_way(&site.mirror, &manifest("org/app", "1")).await;
    refused_in_every_way(&site.mirror, &manifest("org/app", &site.app.digest)).await;
    refused_in_every_way(&site.mirror, &layer("org/tool", &site.tool.layers()[1].digest)).await;
    let shared = site.mirror.client().get(&layer("org/tool", &site.app.layers()[0].digest)).await;
    assert_eq!(shared.status, 200);
}

#[tokio::test]
async fn a_referrer_that_is_blocked_stays_listed() {
    let registry = Upstream::start().await;
    let app = image(&[blob(1000, 1)]);
    let signature = artifact(&app, "application/vnd.test.signature", blob(20, 5));
    registry.publish("org/app", "1", &app);
    registry.put_referrer("org/app", &signature);
    let mirror = Mirror::of("docker.io", registry.url()).await;
    block(&mirror, &signature.digest).await;
    let list = mirror.client().get(&format!("/v2/org/app/referrers/{}", app.digest)).await;
    assert_eq!((list.status, &list.json()["manifests"][0]["digest"]), (200, &signature.digest.clone().into()));
    refused_in_every_way(&mirror, &manifest("org/app", &signature.digest)).await;
}
