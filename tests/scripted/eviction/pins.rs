//! A pinned image stays, with everything it reaches.

use super::*;
use roadstead::jobs::{add_pins, remove_pins};

use crate::support::image::{self, Image};

const SMALL: &str = "max_size = \"5MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

fn all_of(image: &Image) -> Vec<String> {
    let own = std::iter::once(image.digest.clone()).chain(image.blobs.iter().map(|blob| blob.digest.clone()));
    own.chain(image.children.iter().flat_map(all_of)).collect()
}

fn is_whole(mirror: &Mirror, image: &Image) -> bool {
    all_of(image).iter().all(|digest| has_file(mirror, digest))
}

async fn pull_index(mirror: &Mirror, tag: &str, index: &Image) {
    let client = mirror.client();
    assert_eq!(client.get(&format!("/v2/{APP}/manifests/{tag}")).await.status, 200);
    for child in &index.children {
        mirror.pull_whole(APP, &child.digest).await;
    }
    eventually("all is stored", async || is_whole(mirror, index)).await;
}

#[tokio::test]
async fn a_pinned_tag_keeps_its_index_its_images_and_their_layers() {
    let upstream = Upstream::start().await;
    let images = [image::image(&[blob(MIB, 1)]), image::image(&[blob(MIB, 2)])];
    let pinned = image::index(&[&images[0], &images[1]]);
    let other = image::image(&[blob(MIB, 3)]);
    upstream.publish(APP, "v1.0", &pinned);
    upstream.publish(APP, "v2.0", &other);
    let digests = mebibytes(&upstream, 100..110);
    let pins = format!("{SMALL}\npins = [\"docker.io/library/app:v1*\"]");
    let mirror = bounded(&upstream, &pins).start().await;
    pull_index(&mirror, "v1.0", &pinned).await;
    mirror.pull_whole(APP, "v2.0").await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &digests).await;
    assert!(is_whole(&mirror, &pinned), "pinned, though unused for longest");
    assert!(!has_file(&mirror, &other.layers()[0].digest), "another tag of the same repository");
    assert_eq!(counted(&mirror, "roadstead_uncached_streams_total{authority=\"docker.io\"}"), 0);
}

#[tokio::test]
async fn a_pinned_repository_keeps_what_refers_to_its_images() {
    let upstream = Upstream::start().await;
    let pinned = image::image(&[blob(MIB, 1)]);
    let signature = image::artifact(&pinned, "application/test.signature", blob(1000, 2));
    upstream.publish(APP, "v1", &pinned);
    upstream.put_referrer(APP, &signature);
    upstream.tag(APP, "signature", &signature.digest);
    let digests = mebibytes(&upstream, 100..110);
    let pins = format!("{SMALL}\npins = [\"docker.io/library/app:v1\"]");
    let mirror = bounded(&upstream, &pins).start().await;
    mirror.pull_whole(APP, "v1").await;
    mirror.pull_whole(APP, "signature").await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &digests).await;
    assert!(is_whole(&mirror, &pinned) && has_file(&mirror, &signature.layers()[0].digest));
}

#[tokio::test]
async fn a_tag_that_moves_takes_its_pin_with_it_and_a_pin_that_is_taken_back_keeps_nothing() {
    let upstream = Upstream::start().await;
    let (old, new) = (image::image(&[blob(MIB, 1)]), image::image(&[blob(MIB, 2)]));
    upstream.publish(APP, "v1", &old);
    let digests = mebibytes(&upstream, 100..130);
    let pins = format!("{SMALL}\npins = [\"docker.io/library/app:v1\"]");
    let mirror = bounded(&upstream, &pins).start().await;
    mirror.pull_whole(APP, "v1").await;
    upstream.publish(APP, "v1", &new);
    mirror.advance(Duration::from_hours(2));
    mirror.pull_whole(APP, "v1").await;
    // A start makes all marks anew.
    let stopped = mirror.stop().await;
    let toml = upstream_named("docker.io", &upstream, "tag_ttl = \"1h\"");
    let mirror = stopped.start_in(&pins, toml.clone()).await;
    mirror.advance(Duration::from_hours(48));
    pull_all(&mirror, &digests[..10]).await;
    assert!(!has_file(&mirror, &old.layers()[0].digest), "the old one");
    assert!(is_whole(&mirror, &new), "the new one");
    let mirror = mirror.stop().await.start_in(SMALL, toml).await;
    mirror.advance(Duration::from_hours(48));
    pull_all(&mirror, &digests[10..]).await;
    assert!(!has_file(&mirror, &new.layers()[0].digest));
}

/// The image was pulled before it was pinned.
#[tokio::test]
async fn a_new_pin_keeps_what_is_held_already() {
    let upstream = Upstream::start().await;
    let image = image::image(&[blob(MIB, 1)]);
    upstream.publish(APP, "v1", &image);
    let digests = mebibytes(&upstream, 100..110);
    let mirror = bounded(&upstream, SMALL).start().await;
    mirror.pull_whole(APP, "v1").await;
    let toml = upstream_named("docker.io", &upstream, "tag_ttl = \"1h\"");
    let pins = format!("{SMALL}\npins = [\"docker.io/library/**\"]");
    let mirror = mirror.stop().await.start_in(&pins, toml).await;
    pull_all(&mirror, &digests).await;
    assert!(is_whole(&mirror, &image));
}

/// Their grants are those of the whole authority.
#[tokio::test]
async fn what_is_pinned_of_a_public_upstream_stays_and_the_rest_of_it_goes() {
    let upstream = Upstream::start().await;
    let pinned = image::image(&[blob(MIB, 1)]);
    let other = image::image(&[blob(MIB, 2)]);
    upstream.publish(APP, "v1", &pinned);
    upstream.publish("other/app", "v1", &pinned);
    upstream.publish("other/app", "v2", &other);
    let digests = mebibytes(&upstream, 100..110);
    let toml = upstream_named("docker.io", &upstream, "tag_ttl = \"1h\"\npublic = true");
    let mirror = Mirror::builder(toml.clone()).storage(SMALL).start().await;
    // The first to be served it is not who pins it, and nobody asks by tag.
    mirror.pull_whole("other/app", &pinned.digest).await;
    mirror.pull_whole(APP, &pinned.digest).await;
    mirror.pull_whole("other/app", &other.digest).await;
    let pins = format!("{SMALL}\npins = [\"docker.io/library/**\"]");
    let mirror = mirror.stop().await.start_in(&pins, toml.clone()).await;
    // The same from the facts beside the blobs.
    let stopped = mirror.stop().await;
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    let mirror = stopped.start_in(&pins, toml).await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &digests).await;
    assert!(is_whole(&mirror, &pinned), "pinned, though unused for longest");
    assert!(!has_file(&mirror, &other.layers()[0].digest), "another repository of the same registry");
}

#[tokio::test]
async fn a_storage_in_which_nothing_may_go_is_told_by_readyz_until_something_may() {
    let upstream = Upstream::start().await;
    let pinned = image::image(&[blob(3 * MIB, 1)]);
    upstream.publish(APP, "1", &pinned);
    let other = upstream.blob(APP, blob(2 * MIB, 7));
    let mirror = bounded(&upstream, "max_size = \"4MiB\"").start().await;
    let pin = || vec![format!("docker.io/{APP}")];
    add_pins(mirror.inner(), &pin()).await.unwrap();
    mirror.pull_whole(APP, "1").await;
    let well = || counted(&mirror, r#"roadstead_storage_healthy{part="space"}"#);
    assert_eq!(well(), 1);
    assert_eq!(sha256(&mirror.client().get(&path_of(&other)).await.body), other);
    assert_eq!(well(), 0);
    let ready = Client::new(mirror.admin).get("/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("degraded: space: there is no room"), "{}", ready.text());
    remove_pins(mirror.inner(), &pin()).await.unwrap();
    mirror.advance(Duration::from_secs(31));
    pull_all(&mirror, std::slice::from_ref(&other)).await;
    assert_eq!((well(), is_whole(&mirror, &pinned)), (1, false));
}

#[tokio::test]
async fn a_storage_that_running_downloads_fill_lacks_no_room_that_anyone_could_make() {
    let (upstream, gate) = (Upstream::start().await, Gate::closed());
    let large = upstream.blob(APP, blob(3 * MIB, 1));
    let other = upstream.blob(APP, blob(2 * MIB, 7));
    let mirror = bounded(&upstream, "max_size = \"4MiB\"").start().await;
    upstream.script(blobs().get().once().stall_after(2 * MIB, &gate));
    let (client, path) = (mirror.client(), path_of(&large));
    let filling = tokio::spawn(async move { client.get(&path).await });
    gate.arrived().await;
    assert_eq!(sha256(&mirror.client().get(&path_of(&other)).await.body), other);
    let refused = r#"roadstead_reservations_refused_total{authority="docker.io"}"#;
    let well = r#"roadstead_storage_healthy{part="space"}"#;
    assert_eq!((counted(&mirror, refused), counted(&mirror, well)), (1, 1));
    gate.open();
    assert_eq!(sha256(&filling.await.unwrap().body), large);
}
