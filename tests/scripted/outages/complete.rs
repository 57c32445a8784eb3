//! `complete`, `platforms` and `referrers`: the rest of what was pulled is fetched in the background.

use super::{LATER, QUICK, REPOSITORY, ahead_of_need, blob_status, tag};
use crate::support::eventually;
use crate::support::image::{Builder as ImageBuilder, artifact, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn fetched(mirror: &Mirror, what: &str) -> f64 {
    mirror.metric(&format!("roadstead_completed_total{{authority=\"docker.io\",what=\"{what}\",result=\"obtained\"}}"))
}

/// Pulls another image, and resolves when the background has asked for its referrers: what was to be done before is done.
async fn what_came_later_is_looked_at(registry: &Upstream, mirror: &Mirror) {
    let later = image(&[blob(10, 9999)]);
    registry.publish("org/later", "1", &later);
    assert_eq!(tag(mirror, "org/later", "1").await, 200);
    let asked = referrers().reference(&later.digest);
    eventually("what came later is looked at", async || !registry.requests_of(&asked).is_empty()).await;
}

#[tokio::test]
async fn by_default_the_config_of_a_pulled_manifest_is_fetched_and_no_layer() {
    let registry = Upstream::start().await;
    let image = image(&[blob(1000, 1)]);
    registry.publish(REPOSITORY, "1", &image);
    let mirror = ahead_of_need(&registry, QUICK).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    eventually("the config is fetched", async || fetched(&mirror, "blob") >= 1.0).await;
    assert_eq!(registry.gets_of(&image.config().digest), 1);
    assert_eq!(registry.gets_of(&image.layers()[0].digest), 0);
    registry.stop().await;
    assert_eq!(blob_status(&mirror, REPOSITORY, &image.config().digest).await, 200);
}

#[tokio::test]
async fn with_image_every_blob_of_a_new_manifest_begins_before_the_client_asks() {
    let registry = Upstream::start().await;
    let image = image(&[blob(100_000, 1), blob(100_000, 2), blob(100_000, 3)]);
    registry.publish(REPOSITORY, "1", &image);
    let gate = Gate::closed();
    registry.script(blobs().always().stall_before_headers(&gate));
    let mirror = Mirror::start(super::upstream(&registry, "complete = \"image\"")).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    gate.arrived_times(4).await;
    gate.open();
    for part in std::iter::once(image.config()).chain(image.layers()) {
        assert_eq!(blob_status(&mirror, REPOSITORY, &part.digest).await, 200);
        assert_eq!(registry.gets_of(&part.digest), 1, "the client joins");
    }
}

#[tokio::test]
async fn with_platforms_the_images_of_an_index_are_fetched_whole() {
    let registry = Upstream::start().await;
    let images = [image(&[blob(1000, 1)]), image(&[blob(1000, 2)]), image(&[blob(1000, 3)])];
    registry.publish(REPOSITORY, "1", &index(&[&images[0], &images[1], &images[2]]));
    let lines = format!("{QUICK}\ncomplete = \"image\"\nplatforms = [\"linux/amd64\", \"linux/s390x\"]");
    let mirror = ahead_of_need(&registry, &lines).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    eventually("two images are fetched", async || fetched(&mirror, "blob") >= 4.0).await;
    registry.stop().await;
    for (image, status) in images.iter().zip([200, 502, 200]) {
        let found = mirror.client().get(&format!("/v2/{REPOSITORY}/manifests/{}", image.digest)).await.status;
        assert_eq!(found, status);
    }
    assert_eq!(blob_status(&mirror, REPOSITORY, &images[2].layers()[0].digest).await, 200);
}

#[tokio::test]
async fn with_referrers_signatures_are_held_for_an_outage() {
    let registry = Upstream::start().await;
    let image = image(&[blob(1000, 1)]);
    let signature = artifact(&image, "application/vnd.example.signature", blob(500, 7));
    registry.publish(REPOSITORY, "1", &image);
    registry.put_referrer(REPOSITORY, &signature);
    let lines = format!("{QUICK}\ncomplete = \"image\"\nreferrers = true");
    let mirror = ahead_of_need(&registry, &lines).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    eventually("the signature's layer is fetched", async || registry.gets_of(&signature.layers()[0].digest) == 1).await;
    eventually("everything is fetched", async || fetched(&mirror, "blob") >= 3.0).await;
    registry.stop().await;
    mirror.advance(LATER);
    let list = mirror.client().get(&format!("/v2/{REPOSITORY}/referrers/{}", image.digest)).await;
    assert_eq!(list.json()["manifests"][0]["digest"], signature.digest.as_str());
    let found = mirror.client().get(&format!("/v2/{REPOSITORY}/manifests/{}", signature.digest)).await;
    assert_eq!(found.status, 200);
    assert_eq!(blob_status(&mirror, REPOSITORY, &signature.layers()[0].digest).await, 200);
}

#[tokio::test]
async fn a_rule_decides_for_its_repositories() {
    let registry = Upstream::start().await;
    let (big, small) = (image(&[blob(1000, 1)]), image(&[blob(1000, 2)]));
    registry.publish("big/app", "1", &big);
    registry.publish("small/app", "1", &small);
    let rules = "[[upstreams.\"docker.io\".completion]]\nmatch = \"big/**\"\ncomplete = \"image\"\n";
    let mirror = ahead_of_need(&registry, &format!("{QUICK}\ncomplete = \"off\"\n{rules}")).await;
    assert_eq!(tag(&mirror, "small/app", "1").await, 200);
    assert_eq!(tag(&mirror, "big/app", "1").await, 200);
    eventually("the big one is held", async || registry.gets_of(&big.layers()[0].digest) == 1).await;
    assert_eq!(registry.gets_of(&small.config().digest), 0);
}

#[tokio::test]
async fn nothing_that_is_used_goes_for_what_nobody_asked_for() {
    let registry = Upstream::start().await;
    let used = image(&[blob(700_000, 1)]);
    let unasked = image(&[blob(700_000, 2)]);
    registry.publish("org/used", "1", &used);
    registry.publish(REPOSITORY, "1", &unasked);
    let toml = super::upstream(&registry, &format!("{QUICK}\ncomplete = \"image\""));
    let mirror = Mirror::builder(toml).storage("max_size = \"1MiB\"").completes().start().await;
    mirror.pull_whole("org/used", "1").await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    eventually("it was tried", async || registry.gets_of(&unasked.layers()[0].digest) >= 1).await;
    let config = &unasked.config().digest;
    eventually("the small one has room", async || registry.gets_of(config) == 1).await;
    let path = format!("/v2/org/used/blobs/{}", used.layers()[0].digest);
    assert_eq!(mirror.client().head(&path).await.header("cache-status"), "roadstead; hit");
    // A client that asks has it stored, and what is colder goes.
    assert_eq!(blob_status(&mirror, REPOSITORY, &unasked.layers()[0].digest).await, 200);
}

#[tokio::test]
async fn t93_referrers_of_referrers_are_followed_three_steps_and_no_further() {
    let registry = Upstream::start().await;
    let mut chain = vec![image(&[blob(1000, 1)])];
    for step in 1..=6 {
        let next = artifact(&chain[chain.len() - 1], "application/vnd.example.signature", blob(500, 10 + step));
        registry.put_referrer(REPOSITORY, &next);
        chain.push(next);
    }
    registry.publish(REPOSITORY, "1", &chain[0]);
    let mirror = ahead_of_need(&registry, &format!("{QUICK}\ncomplete = \"image\"\nreferrers = true")).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    let last = &chain[3];
    eventually("the third step is held whole", async || registry.gets_of(&last.layers()[0].digest) == 1).await;
    what_came_later_is_looked_at(&registry, &mirror).await;
    for further in &chain[4..] {
        assert_eq!(registry.gets_of(&further.digest), 0);
    }
}

#[tokio::test]
async fn t93_one_pull_leads_to_500_questions_whatever_upstream_names() {
    let registry = Upstream::start().await;
    let image = image(&[blob(1000, 1)]);
    registry.publish(REPOSITORY, "1", &image);
    for nth in 0..700 {
        registry.put_referrer(REPOSITORY, &artifact(&image, "application/vnd.example.signature", blob(10, 100 + nth)));
    }
    let mirror = ahead_of_need(&registry, &format!("{QUICK}\ncomplete = \"off\"\nreferrers = true")).await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    // The list is the first question.
    eventually("the budget is spent", async || fetched(&mirror, "manifest") >= 499.0).await;
    what_came_later_is_looked_at(&registry, &mirror).await;
    assert!(fetched(&mirror, "manifest") < 500.0);
    let asked = registry.requests_of(&manifests().get()).len() + registry.requests_of(&referrers()).len();
    assert!(asked <= 510, "{asked}");
}

#[tokio::test]
async fn t93_manifests_that_nobody_asked_for_take_32_mib_and_push_nothing_out() {
    const MIB: usize = 1024 * 1024;
    let registry = Upstream::start().await;
    let used = image(&[blob(8 * MIB as u64, 1)]);
    let image = image(&[blob(1000, 2)]);
    registry.publish("org/used", "1", &used);
    registry.publish(REPOSITORY, "1", &image);
    for nth in 0..45 {
        // Annotations would be in the list, too.
        let url = format!("https://example.test/{}", "x".repeat(MIB));
        let referrer = ImageBuilder::new().layer_from(blob(10, 100 + nth), &[url]).subject(&image).build();
        registry.put_referrer(REPOSITORY, &referrer);
    }
    let toml = super::upstream(&registry, &format!("{QUICK}\ncomplete = \"off\"\nreferrers = true"));
    let mirror = Mirror::builder(toml).storage("max_size = \"16MiB\"").completes().start().await;
    mirror.pull_whole("org/used", "1").await;
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200);
    eventually("the budget is spent", async || fetched(&mirror, "manifest") >= 31.0).await;
    what_came_later_is_looked_at(&registry, &mirror).await;
    assert!(fetched(&mirror, "manifest") <= 33.0);
    let path = format!("/v2/org/used/blobs/{}", used.layers()[0].digest);
    assert_eq!(mirror.client().head(&path).await.header("cache-status"), "roadstead; hit");
    assert!(mirror.metric("roadstead_evicted_blobs_total{authority=\"docker.io\",reason=\"space\"}") < 1.0);
}
