//! The same repository and tag on two upstreams never mix (docs/SECURITY-THREATS.md, T6).

use super::upstream;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t6_the_same_repository_and_tag_on_two_upstreams_never_mix() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let (first, second) = (image(&[blob(100, 1)]), image(&[blob(100, 2)]));
    one.publish("org/app", "latest", &first);
    two.publish("org/app", "latest", &second);
    two.tag("org/app", "only-here", &second.digest);
    let mirror = Mirror::start(upstream("one.test", &one, "") + &upstream("two.test", &two, "")).await;
    let client = mirror.client();
    for _cold_and_warm in 0..2 {
        for (ns, image, tags) in
            [("one.test", &first, vec!["latest"]), ("two.test", &second, vec!["latest", "only-here"])]
        {
            let answer = client.get(&format!("/v2/org/app/manifests/latest?ns={ns}")).await;
            assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{ns}");
            assert_eq!(answer.header("docker-content-digest"), image.digest);
            let listed = client.get(&format!("/v2/org/app/tags/list?ns={ns}")).await.json();
            assert_eq!(listed["tags"], serde_json::json!(tags), "{ns}");
        }
    }
}

#[tokio::test]
async fn t6_what_one_upstream_granted_is_not_read_through_the_other() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let secret = image(&[blob(100, 1)]);
    one.publish("org/app", "latest", &secret);
    two.publish("org/app", "other", &image(&[blob(100, 2)]));
    let mirror = Mirror::start(upstream("one.test", &one, "") + &upstream("two.test", &two, "")).await;
    let client = mirror.client();
    let layer = &secret.layers()[0].digest;
    for part in [format!("manifests/{}", secret.digest), format!("blobs/{layer}")] {
        assert_eq!(client.get(&format!("/v2/org/app/{part}?ns=one.test")).await.status, 200);
        let two_before = two.requests().len();
        for method in [http::Method::GET, http::Method::HEAD] {
            let answer = client.send(method, &format!("/v2/org/app/{part}?ns=two.test"), &[]).await;
            assert_eq!(answer.status, 404, "{part}");
            assert!(!answer.headers.contains_key("docker-content-digest"));
        }
        assert!(two.requests().len() > two_before, "the other upstream was asked, and its word counts");
    }
    let listed = client.get("/v2/org/app/tags/list?ns=two.test").await.json();
    assert_eq!(listed["tags"], serde_json::json!(["other"]));
}

#[tokio::test]
async fn t6_two_repositories_of_one_upstream_never_mix_either() {
    let registry = Upstream::start().await;
    let (first, second) = (image(&[blob(100, 1)]), image(&[blob(100, 2)]));
    registry.publish("org/app", "1", &first);
    registry.publish("org/app/x", "1", &second);
    let mirror = Mirror::start(upstream("one.test", &registry, "")).await;
    let client = mirror.client();
    for _cold_and_warm in 0..2 {
        for (repository, image) in [("org/app", &first), ("org/app/x", &second)] {
            let answer = client.get(&format!("/v2/one.test/{repository}/manifests/1")).await;
            assert_eq!(answer.body, image.manifest, "{repository}");
        }
        let other = client.get(&format!("/v2/one.test/org/app/manifests/{}", second.digest)).await;
        assert_eq!(other.status, 404, "a digest of another repository is asked for, and not there");
    }
}
