//! Content that is too large is refused at its cap, by the name of the key (docs/SECURITY-THREATS.md, T29).

use super::upstream;
use crate::support::image::{Builder, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t29_a_manifest_over_the_cap_is_refused_by_the_name_of_the_key() {
    let registry = Upstream::start().await;
    let (fits, large) = (Builder::new().padding(3_900_000).build(), Builder::new().padding(4_300_000).build());
    registry.publish("org/app", "fits", &fits);
    registry.publish("org/app", "large", &large);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/fits").await.body, fits.manifest);
    for chunked in [false, true] {
        if chunked {
            registry.script(manifests().get().always().chunked());
        }
        for reference in ["large", &large.digest] {
            let answer = mirror.client().get(&format!("/v2/org/app/manifests/{reference}")).await;
            assert_eq!(answer.status, 502, "{reference}");
            assert!(answer.text().contains("`max_manifest_size`"), "{}", answer.text());
        }
    }
    let lines = "max_manifest_size = \"5MiB\"";
    let raised = Mirror::start(upstream("docker.io", &registry, lines)).await;
    for _cold_and_warm in 0..2 {
        assert_eq!(raised.client().get("/v2/org/app/manifests/large").await.body, large.manifest);
    }
}

#[tokio::test]
async fn t29_a_tag_list_over_the_cap_is_refused_by_the_name_of_the_key() {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    for at in 0..100 {
        registry.publish("org/app", &format!("tag-number-{at}"), &app);
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, "max_list_size = \"1000B\"")).await;
    let answer = mirror.client().get("/v2/org/app/tags/list").await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("`max_list_size`"), "{}", answer.text());
    assert_eq!(mirror.client().get("/v2/org/app/tags/list?n=5").await.status, 200, "a page fits");
}

#[tokio::test]
async fn t29_referrers_over_the_cap_are_refused_in_one_page_or_many() {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    for at in 0..40 {
        let kind = format!("application/vnd.test.{at}");
        registry.put_referrer("org/app", &crate::support::image::artifact(&app, &kind, blob(10, at)));
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, "max_list_size = \"4000B\"")).await;
    let path = format!("/v2/org/app/referrers/{}", app.digest);
    for page in [1000, 5] {
        registry.page_size(page);
        let answer = mirror.client().get(&path).await;
        assert_eq!(answer.status, 502, "{page}: {}", answer.text());
        assert!(answer.text().contains("`max_list_size`"), "{}", answer.text());
    }
}

#[tokio::test]
async fn t29_a_token_over_its_cap_is_refused() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    registry.token_auth(&TokenAuth::new().padding(2_000_000));
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    let answer = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[tokio::test]
async fn t29_a_list_of_referrers_without_end_is_refused() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    let page = Content::from("{\"schemaVersion\":2,\"manifests\":[]}");
    let step = referrers().always().status(200).body(page);
    let step = step.header("content-type", crate::support::image::OCI_INDEX);
    registry.script(step.header("link", "</v2/x?next=1>; rel=\"next\""));
    let answer = mirror.client().get(&format!("/v2/org/app/referrers/sha256:{}", "0".repeat(64))).await;
    assert_eq!(answer.status, 502);
    assert!(registry.requests().len() <= 50);
}
