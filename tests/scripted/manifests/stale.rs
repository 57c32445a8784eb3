//! A copy is held and its check fails: stale by cause.

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::image::{Builder, Image, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const QUICK: &str = "check_timeout = \"300ms\"\nresponse_timeout = \"1s\"\nbreaker_window = \"0s\"";

/// `1` is an image that was pulled whole, `part` one whose layer was not, `index` an index without its images.
async fn three() -> (Upstream, Mirror, [(&'static str, Image); 3]) {
    let registry = Upstream::start().await;
    let (whole, part) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    let list = index(&[&Builder::new().layer(blob(10, 3)).build()]);
    let images = [("1", whole), ("part", part), ("index", list)];
    for (tag, image) in &images {
        registry.publish("org/app", tag, image);
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, QUICK)).await;
    mirror.pull_whole("org/app", "1").await;
    for tag in ["part", "index"] {
        assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await.status, 200);
    }
    let config = images[1].1.config().digest.clone();
    assert_eq!(mirror.client().get(&format!("/v2/org/app/blobs/{config}")).await.status, 200);
    mirror.advance(Duration::from_mins(2));
    registry.forget_requests();
    (registry, mirror, images)
}

async fn assert_stale(mirror: &Mirror, (tag, image): &(&str, Image), cause: &str) {
    let answer = mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await;
    assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{cause}: {tag}");
    let warning = answer.header("warning");
    assert!(warning.starts_with("299 - \"served stale: ") && warning.ends_with('"'), "{cause}: {warning}");
    assert!(answer.header("cache-status").contains("stale"), "{cause}");
    assert!(answer.header("age").parse::<u64>().unwrap() >= 120, "{cause}: its age is that of the last good check");
}

#[tokio::test]
async fn after_a_network_failure_a_whole_image_is_served_and_a_part_or_an_index_of_none_is_not() {
    for (cause, step, status) in [
        ("cut", every_request().always().cut_before_headers(), 502),
        ("5xx", every_request().always().status(503), 502),
        ("timeout", every_request().always().hang_before_headers(), 504),
        ("nonsense", every_request().always().says("HTTP/9 what\r\n\r\n"), 502),
    ] {
        let (registry, mirror, [whole, part, list]) = three().await;
        registry.script(step);
        assert_stale(&mirror, &whole, cause).await;
        for (tag, _) in [part, list] {
            let answer = mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await;
            assert_eq!(answer.status, status, "{cause}: not all is held, so the client may go to its next host");
        }
    }
}

#[tokio::test]
async fn with_upstream_gone_the_same() {
    let (registry, mirror, [whole, part, list]) = three().await;
    registry.stop().await;
    assert_stale(&mirror, &whole, "refused").await;
    for (tag, _) in [part, list] {
        assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await.status, 502);
    }
    let served = mirror.metric("roadstead_stale_serves_total{authority=\"docker.io\"}");
    assert_eq!(served, 1.0, "t24 stale answers are counted");
}

#[tokio::test]
async fn a_ration_of_manifests_is_no_reason_to_refuse_an_image() {
    let (registry, mirror, [whole, part, _]) = three().await;
    registry.script(every_request().always().too_many_requests("60"));
    for each in [&whole, &part] {
        assert_stale(&mirror, each, "429").await;
    }
    assert_eq!(registry.requests().len(), 1, "t28 the breaker knows for the others");
}

#[tokio::test]
async fn t13_words_of_upstreams_own_are_no_reason_to_serve_stale() {
    for status in [400, 402, 451] {
        let (registry, mirror, [whole, ..]) = three().await;
        registry.script(every_request().always().status(status));
        let answer = mirror.client().get(&format!("/v2/org/app/manifests/{}", whole.0)).await;
        assert_eq!(answer.status, 502, "{status}");
    }
}

#[tokio::test]
async fn a_page_for_people_in_place_of_a_manifest_is_a_failure() {
    let (registry, mirror, [whole, part, _]) = three().await;
    registry.script(manifests().always().html().without_digest_header());
    assert_stale(&mirror, &whole, "html").await;
    assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{}", part.0)).await.status, 502);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/unseen").await.status, 502, "and nothing of it is served");
}

#[tokio::test]
async fn a_held_tag_is_not_checked_again_for_the_longer_of_its_ttl_and_ten_seconds_and_retry_after() {
    for (ttl, step, hold) in [
        ("1s", manifests().always().status(500), 10),
        ("30s", manifests().always().status(500), 30),
        ("1s", manifests().always().too_many_requests("45"), 45),
        ("50s", manifests().always().too_many_requests("45"), 50),
    ] {
        let registry = Upstream::start().await;
        registry.publish("org/app", "1", &index(&[]));
        let toml = upstream("docker.io", &registry, &format!("tag_ttl = \"{ttl}\"\n{QUICK}"));
        let mirror = Mirror::start(toml).await;
        let pull = async || mirror.client().get("/v2/org/app/manifests/1").await;
        assert_eq!(pull().await.status, 200);
        mirror.advance(Duration::from_mins(2));
        registry.forget_requests();
        registry.script(step);
        for seconds in [0, 0, hold - 2] {
            mirror.advance(Duration::from_secs(seconds));
            assert!(pull().await.header("warning").starts_with("299 "));
            assert_eq!(registry.count(Method::HEAD, Kind::Manifest), 1, "{ttl}, held for {hold} s");
        }
        mirror.advance(Duration::from_secs(3));
        assert!(pull().await.header("warning").starts_with("299 "));
        assert_eq!(registry.count(Method::HEAD, Kind::Manifest), 2, "{ttl}, held for {hold} s");
        registry.clear_script();
        mirror.advance(Duration::from_mins(2));
        let answer = pull().await;
        assert!(answer.headers.get("warning").is_none(), "upstream is back");
        assert_eq!(answer.header("age"), "0");
    }
}

#[tokio::test]
async fn a_slow_upstream_costs_one_wait_for_all_tags() {
    let registry = Upstream::start().await;
    for tag in ["1", "2", "3"] {
        registry.publish("org/app", tag, &index(&[]));
    }
    let toml = upstream("docker.io", &registry, "check_timeout = \"300ms\"\nbreaker_window = \"1h\"");
    let mirror = Mirror::start(toml).await;
    for tag in ["1", "2", "3"] {
        assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await.status, 200);
    }
    mirror.advance(Duration::from_mins(2));
    registry.forget_requests();
    registry.script(every_request().always().hang_before_headers());
    for tag in ["1", "2", "3", "1"] {
        let answer = mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await;
        assert!(answer.status == 200 && answer.header("warning").starts_with("299 "), "{tag}");
    }
    let asked: Vec<_> = registry.requests().iter().map(|request| request.reference.clone()).collect();
    assert_eq!(
        asked,
        [Some("1".to_owned()), Some("1".to_owned())],
        "t32 a timeout on a new connection opens the breaker"
    );
}

#[tokio::test]
async fn an_image_with_a_foreign_layer_is_whole_without_it() {
    let layer = |media_type: &str| {
        let urls = ["https://elsewhere.test/layer"];
        let digest = blob(10, 5).sha256();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": 10, "urls": urls})
    };
    for (media_type, status) in [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 200),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 200),
        ("application/vnd.oci.image.layer.v1.tar+gzip", 502),
    ] {
        let registry = Upstream::start().await;
        let config = registry.blob("org/app", blob(20, 6));
        let config = serde_json::json!({"mediaType": "a/b", "digest": config, "size": 20});
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer(media_type)]});
        let digest = registry.manifest("org/app", crate::support::image::OCI_MANIFEST, manifest.to_string());
        registry.tag("org/app", "1", &digest);
        let mirror = Mirror::start(upstream("docker.io", &registry, QUICK)).await;
        let path = "/v2/org/app/manifests/1";
        assert_eq!(mirror.client().get(path).await.status, 200);
        let config = format!("/v2/org/app/blobs/{}", config["digest"].as_str().unwrap());
        assert_eq!(mirror.client().get(&config).await.status, 200);
        crate::support::mirror::quiet(&mirror).await;
        registry.stop().await;
        mirror.advance(Duration::from_mins(2));
        assert_eq!(mirror.client().get(path).await.status, status, "{media_type}");
    }
}
