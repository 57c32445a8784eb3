//! What is blocked with an image: the layers that only blocked images use.

use super::*;
use crate::support::image::index;

#[tokio::test]
async fn t110_layers_that_only_blocked_images_use_are_blocked_and_shared_ones_are_served() {
    let site = Site::start().await;
    block(&site.mirror, &site.app.digest).await;
    refused_in_every_way(&site.mirror, &layer("org/app", site.own())).await;
    refused_in_every_way(&site.mirror, &layer("org/app", &site.app.config().digest)).await;
    for repository in ["org/app", "org/tool"] {
        assert_eq!(site.status(&layer(repository, site.shared())).await, 200, "{repository}");
    }
    block(&site.mirror, &site.tool.digest).await;
    assert!(
        is_refused(&site.mirror.client().get(&layer("org/tool", site.shared())).await),
        "all that use it are blocked"
    );
    unblock(&site.mirror, &site.app.digest).await;
    site.mirror.pull_whole("org/app", "1").await;
    assert!(is_refused(&site.mirror.client().get(&layer("org/tool", &site.tool.layers()[1].digest)).await));
}

#[tokio::test]
async fn a_blocked_index_takes_its_images_along_unless_a_tag_names_them() {
    let registry = Upstream::start().await;
    let (amd64, arm64) = (image(&[blob(3000, 2)]), image(&[blob(4000, 3)]));
    let app = index(&[&amd64, &arm64]);
    registry.publish("org/app", "1", &app);
    registry.publish("org/app", "amd64", &amd64);
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let client = mirror.client();
    assert_eq!(client.get(&manifest("org/app", "1")).await.status, 200);
    mirror.pull_whole("org/app", "amd64").await;
    mirror.pull_whole("org/app", &arm64.digest).await;
    block(&mirror, &app.digest).await;
    refused_in_every_way(&mirror, &manifest("org/app", &arm64.digest)).await;
    refused_in_every_way(&mirror, &layer("org/app", &arm64.layers()[0].digest)).await;
    mirror.pull_whole("org/app", "amd64").await;
    mirror.pull_whole("org/app", &amd64.digest).await;
}

#[tokio::test]
async fn a_tag_that_is_blocked_takes_its_image_along_in_its_repository() {
    let site = Site::start().await;
    site.registry.publish("org/app", "2", &image(&[blob(700, 9)]));
    block(&site.mirror, "docker.io/org/app:1*").await;
    refused_in_every_way(&site.mirror, &manifest("org/app", "1")).await;
    refused_in_every_way(&site.mirror, &manifest("org/app", "1.2")).await;
    refused_in_every_way(&site.mirror, &manifest("org/app", &site.app.digest)).await;
    refused_in_every_way(&site.mirror, &layer("org/app", site.own())).await;
    site.mirror.pull_whole("org/app", "2").await;
    site.mirror.pull_whole("org/tool", "1").await;
}

#[tokio::test]
async fn a_blocked_repository_gives_nothing_and_others_keep_what_they_share_with_it() {
    let site = Site::start().await;
    block(&site.mirror, "docker.io/org/a*").await;
    refused_in_every_way(&site.mirror, &manifest("org/app", &site.app.digest)).await;
    refused_in_every_way(&site.mirror, &layer("org/app", site.shared())).await;
    assert!(is_refused(&site.mirror.client().get("/v2/org/app/tags/list").await));
    site.mirror.pull_whole("org/tool", "1").await;
}

#[tokio::test]
async fn an_image_that_comes_later_is_whole_though_it_shares_what_was_blocked() {
    let site = Site::start().await;
    block(&site.mirror, &site.app.digest).await;
    let later = image(&[blob(300_000, 2), blob(50, 7)]);
    site.registry.publish("org/later", "1", &later);
    refused_in_every_way(&site.mirror, &layer("org/app", site.own())).await;
    site.mirror.pull_whole("org/later", "1").await;
    let mirror = site.mirror.restart().await;
    mirror.pull_whole("org/later", "1").await;
    assert!(is_refused(&mirror.client().get(&manifest("org/app", "1")).await));
}

#[tokio::test]
async fn an_image_under_a_tag_that_is_not_blocked_is_given_though_another_tag_of_it_is() {
    let site = Site::start().await;
    block(&site.mirror, "docker.io/org/app:1").await;
    refused_in_every_way(&site.mirror, &manifest("org/app", &site.app.digest)).await;
    site.registry.publish("org/app", "other", &site.app);
    site.mirror.pull_whole("org/app", "other").await;
    assert!(is_refused(&site.mirror.client().get(&manifest("org/app", "1")).await));
}
