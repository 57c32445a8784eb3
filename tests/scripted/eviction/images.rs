//! Eviction thinks in images.

use super::*;
use crate::support::image;

const SMALL: &str = "max_size = \"4200KiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

async fn use_tag(mirror: &Mirror, tag: &str) {
    assert_eq!(mirror.client().get(&format!("/v2/{APP}/manifests/{tag}")).await.status, 200);
}

#[tokio::test]
async fn a_layer_of_an_image_that_is_used_outlives_its_peers() {
    let upstream = Upstream::start().await;
    let live = image::image(&[blob(MIB, 1), blob(MIB, 2)]);
    let cold = image::image(&[blob(MIB, 3), blob(MIB, 4)]);
    upstream.publish(APP, "live", &live);
    upstream.publish(APP, "cold", &cold);
    let others = mebibytes(&upstream, 100..102);
    let mirror = bounded(&upstream, SMALL).start().await;
    mirror.pull_whole(APP, "live").await;
    mirror.advance(Duration::from_mins(10));
    mirror.pull_whole(APP, "cold").await;
    mirror.advance(Duration::from_mins(10));
    // A machine that has the layers asks for the manifest only.
    use_tag(&mirror, "live").await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &others).await;
    let layers = |image: &image::Image| image.layers().iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
    assert_eq!(kept(&mirror, &layers(&live)), [0, 1]);
    assert!(kept(&mirror, &layers(&cold)).is_empty());
    assert!(has_file(&mirror, &live.digest) && has_file(&mirror, &cold.digest), "manifests are tiny");
}

#[tokio::test]
async fn an_image_whose_layers_were_evicted_is_pulled_again_by_its_tag() {
    let upstream = Upstream::start().await;
    let cold = image::image(&[blob(MIB, 3), blob(MIB, 4)]);
    upstream.publish(APP, "cold", &cold);
    let others = mebibytes(&upstream, 100..104);
    let mirror = bounded(&upstream, SMALL).start().await;
    mirror.pull_whole(APP, "cold").await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &others).await;
    assert!(!has_file(&mirror, &cold.layers()[0].digest));
    mirror.advance(Duration::from_hours(24));
    mirror.pull_whole(APP, "cold").await;
}

#[tokio::test]
async fn a_manifest_that_was_evicted_is_fetched_again_by_a_fresh_and_by_a_stale_tag() {
    for (later, name) in [(Duration::from_secs(1), "fresh"), (Duration::from_hours(2), "stale")] {
        let upstream = Upstream::start().await;
        let image = image::image(&[blob(1000, 1)]);
        upstream.publish(APP, "v1", &image);
        let others = mebibytes(&upstream, 100..105);
        let unused = "unused_for = \"1h\"\nmax_size = \"100MiB\"\nhigh_mark = \"3%\"\nlow_mark = \"2%\"";
        let mirror = Mirror::builder(upstream_named("docker.io", &upstream, "tag_ttl = \"1000days\"")).storage(unused);
        let mirror = mirror.start().await;
        mirror.pull_whole(APP, "v1").await;
        mirror.advance(Duration::from_hours(24));
        pull_all(&mirror, &others).await;
        eventually("the manifest has gone", async || !has_file(&mirror, &image.digest)).await;
        if name == "stale" {
            mirror.advance(Duration::from_hours(24 * 1001));
        }
        mirror.advance(later);
        let answer = mirror.client().get(&format!("/v2/{APP}/manifests/v1")).await;
        assert_eq!((answer.status, answer.body), (200, image.manifest.clone()), "{name}");
        eventually("it is stored again", async || has_file(&mirror, &image.digest)).await;
    }
}
