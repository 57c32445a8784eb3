//! HEADs that tell nothing, or something that is over by the time of the GET.

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1";

async fn one() -> (Upstream, Mirror, Image, Image) {
    let registry = Upstream::start().await;
    let (app, newer) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    registry.publish("org/app", "1", &app);
    registry.publish_untagged("org/app", &newer);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    (registry, mirror, app, newer)
}

/// Another tag is held, so that this one is asked about first.
async fn with_another_tag(registry: &Upstream, mirror: &Mirror) {
    registry.publish("org/app", "other", &image(&[blob(10, 3)]));
    assert_eq!(mirror.client().get("/v2/org/app/manifests/other").await.status, 200);
    registry.forget_requests();
}

fn counts(registry: &Upstream) -> (usize, usize) {
    (registry.count(Method::HEAD, Kind::Manifest), registry.count(Method::GET, Kind::Manifest))
}

#[tokio::test]
async fn t23_a_tag_that_moves_between_head_and_get_is_bound_to_the_bytes_it_is_served_with() {
    let (registry, mirror, app, newer) = one().await;
    with_another_tag(&registry, &mirror).await;
    registry.move_tag_after_heads("org/app", "1", 1, &newer.digest);
    let client = mirror.client();
    let answer = client.get(TAG).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (app.digest.as_str(), &app.manifest));
    mirror.advance(Duration::from_mins(1));
    let answer = client.get(TAG).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (newer.digest.as_str(), &newer.manifest));
}

#[tokio::test]
async fn t23_a_digest_that_head_named_and_get_does_not_have_is_asked_for_by_tag() {
    let (registry, mirror, app, newer) = one().await;
    with_another_tag(&registry, &mirror).await;
    let (old, new) = (app.digest.clone(), newer.digest.clone());
    registry.script(manifests().head().once().then(move |contents| {
        contents.tag("org/app", "1", &new);
        contents.remove_manifest("org/app", &old);
    }));
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, newer.digest.as_str()));
    assert_eq!(answer.body, newer.manifest);
    let asked: Vec<_> = registry.requests().iter().map(|r| r.reference.clone().unwrap()).collect();
    assert_eq!(asked, ["1", &app.digest, "1"]);
}

#[tokio::test]
async fn where_head_is_refused_get_is_used_and_head_not_tried_again() {
    for status in [401, 403, 405] {
        let (registry, mirror, app, newer) = one().await;
        registry.refuse_head(Kind::Manifest, status);
        with_another_tag(&registry, &mirror).await;
        assert_eq!(mirror.client().get(TAG).await.body, app.manifest, "{status}");
        assert_eq!(counts(&registry), (1, 1), "{status}");
        mirror.advance(Duration::from_mins(1));
        assert_eq!(mirror.client().get(TAG).await.body, app.manifest);
        registry.tag("org/app", "1", &newer.digest);
        mirror.advance(Duration::from_mins(1));
        assert_eq!(mirror.client().get(TAG).await.body, newer.manifest);
        assert_eq!(counts(&registry), (1, 3), "{status}");
    }
}

#[tokio::test]
async fn where_head_names_no_digest_the_body_is_hashed_and_head_not_tried_again() {
    let (registry, mirror, app, newer) = one().await;
    with_another_tag(&registry, &mirror).await;
    registry.script(manifests().always().without_digest_header());
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (app.digest.as_str(), &app.manifest));
    assert_eq!(counts(&registry), (1, 1));
    registry.tag("org/app", "1", &newer.digest);
    mirror.advance(Duration::from_mins(1));
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (newer.digest.as_str(), &newer.manifest));
    assert_eq!(counts(&registry), (1, 2));
}

/// Nexus, some Harbors and front doors answer HEAD of a manifest with anything, and GET with the manifest.
#[tokio::test]
async fn a_head_that_says_no_leaves_it_to_get() {
    for status in [204, 400, 404, 406, 410, 451, 500, 502, 503] {
        let (registry, mirror, app, newer) = one().await;
        let client = mirror.client();
        assert_eq!(client.get(TAG).await.body, app.manifest);
        registry.script(manifests().head().always().status(status));
        for wanted in [&app, &newer, &app] {
            registry.tag("org/app", "1", &wanted.digest);
            mirror.advance(Duration::from_mins(1));
            registry.forget_requests();
            let answer = client.get(TAG).await;
            assert_eq!((answer.status, &answer.body), (200, &wanted.manifest), "{status}");
            assert_eq!(answer.header("warning"), "", "{status}");
            let (heads, gets) = counts(&registry);
            assert!(heads <= 1 && gets <= 2, "{status}: {heads} HEADs and {gets} GETs");
        }
        registry.remove_tag("org/app", "1");
        mirror.advance(Duration::from_mins(1));
        assert_eq!(client.get(TAG).await.status, 404, "{status}: which GET says too");
    }
}

#[tokio::test]
async fn head_is_tried_again_after_a_while_and_after_a_failure_of_a_moment_the_next_time() {
    type Oddity = fn(Step) -> Step;
    let oddities: [(Oddity, usize); 3] =
        [(Step::without_digest_header, 0), (|step| step.status(404), 0), (|step| step.status(503), 1)];
    for (oddity, heads_at_the_next_check) in oddities {
        let (registry, mirror, app, _) = one().await;
        let client = mirror.client();
        assert_eq!(client.get(TAG).await.body, app.manifest);
        registry.script(oddity(manifests().head().once()));
        mirror.advance(Duration::from_mins(1));
        assert_eq!(client.get(TAG).await.body, app.manifest);
        for (minutes, heads) in [(1, heads_at_the_next_check), (10, 1), (1, 1)] {
            registry.forget_requests();
            mirror.advance(Duration::from_mins(minutes));
            assert_eq!(client.get(TAG).await.header("warning"), "");
            assert_eq!(counts(&registry), (heads, 1 - heads), "after {minutes} min");
        }
    }
}

#[tokio::test]
async fn a_digest_header_that_is_not_that_of_the_body_is_never_trusted() {
    let (registry, mirror, app, newer) = one().await;
    with_another_tag(&registry, &mirror).await;
    // HEAD is refused, and the GET by tag carries another manifest's digest.
    registry.refuse_head(Kind::Manifest, 405);
    registry.script(manifests().get().always().digest_header(&newer.digest));
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.header("docker-content-digest"), &answer.body), (app.digest.as_str(), &app.manifest));
    registry.clear_script();
    let answer = mirror.client().get(&format!("/v2/org/app/manifests/{}", newer.digest)).await;
    assert_eq!(answer.body, newer.manifest, "nothing was kept under the digest of the lie");
}

#[tokio::test]
async fn one_check_has_one_deadline_for_all_that_it_asks() {
    let (registry, mirror, app, newer) = one().await;
    let lines = "check_timeout = \"2s\"\nresponse_timeout = \"1h\"\nbreaker_window = \"0s\"";
    let mirror = mirror.stop().await.start_with(upstream("docker.io", &registry, lines)).await;
    mirror.pull_whole("org/app", "1").await;
    registry.tag("org/app", "1", &newer.digest);
    mirror.advance(Duration::from_mins(1));
    // Each in time by itself, and both together are not.
    registry.script(manifests().head().once().delay(Duration::from_millis(1500)));
    registry.script(manifests().get().up_to(1).delay(Duration::from_millis(1500)));
    let answer = mirror.client().get(TAG).await;
    assert_eq!((answer.status, &answer.body), (200, &app.manifest));
    assert!(answer.header("warning").starts_with("299 - "), "the GET was given a deadline of its own");
}

#[tokio::test]
async fn t28_a_head_that_is_not_sent_is_no_sign_of_life() {
    let registry = Upstream::start().await;
    for tag in ["1", "2", "3"] {
        registry.publish("org/app", tag, &crate::support::image::index(&[]));
    }
    registry.refuse_head(Kind::Manifest, 405);
    let mirror = Mirror::start(upstream("docker.io", &registry, "check_timeout = \"1h\"")).await;
    let client = mirror.client();
    let pull = |tag: &str| {
        let (client, path) = (client.clone(), format!("/v2/org/app/manifests/{tag}"));
        tokio::spawn(async move { client.get(&path).await })
    };
    for tag in ["1", "2", "3"] {
        assert_eq!(pull(tag).await.unwrap().status, 200);
    }
    mirror.advance(Duration::from_mins(2));
    registry.script(manifests().get().once().too_many_requests("1"));
    assert!(pull("1").await.unwrap().header("warning").starts_with("299 - "));
    mirror.advance(Duration::from_mins(2));
    let gate = Gate::closed();
    registry.script(manifests().get().once().stall_before_headers(&gate));
    let probe = pull("1");
    gate.arrived().await;
    registry.forget_requests();
    for tag in ["2", "3"] {
        assert!(pull(tag).await.unwrap().header("warning").starts_with("299 - "), "{tag}");
    }
    assert!(registry.requests().is_empty(), "while one request probes, nobody else asks");
    gate.open();
    assert_eq!(probe.await.unwrap().header("warning"), "");
}
