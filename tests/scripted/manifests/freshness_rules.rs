//! Freshness by repository and tag, and how long a 404 is believed.

use super::upstream;
use crate::support::image::{image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;
use std::time::Duration;

const RULES: &str = r#"
tag_ttl = "1m"
[[upstreams."docker.io".freshness]]
match = "org/**"
tag = 'v\d+\.\d+\.\d+'
immutable = true
[[upstreams."docker.io".freshness]]
match = "org/slow"
tag_ttl = "1h"
[[upstreams."docker.io".freshness]]
match = "**"
tag = "nightly"
tag_ttl = "0s"
"#;

#[tokio::test]
async fn the_first_rule_that_matches_repository_and_tag_decides() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, RULES)).await;
    let cases = [
        // (repository, tag, seconds that it is believed for)
        ("org/app", "v1.2.3", u64::MAX),
        ("org/slow", "v1.2.3", u64::MAX),
        ("org/app", "v1.2.3-rc1", 60),
        ("org/app", "xv1.2.3", 60),
        ("other/app", "v1.2.3", 60),
        ("org/slow", "latest", 3600),
        ("org/slow", "nightly", 3600),
        ("org/app", "nightly", 0),
        ("org/app", "latest", 60),
    ];
    for (repository, tag, believed) in cases {
        registry.publish(repository, tag, &image(&[blob(10, 1)]));
        let pull = async || {
            let answer = mirror.client().get(&format!("/v2/{repository}/manifests/{tag}")).await;
            assert_eq!(answer.status, 200);
        };
        pull().await;
        registry.forget_requests();
        if believed > 0 {
            mirror.advance(Duration::from_secs(believed.min(1_000_000) - 1));
            pull().await;
            assert_eq!(registry.requests().len(), 0, "{repository}:{tag} is still fresh");
            mirror.advance(Duration::from_secs(2));
        }
        pull().await;
        assert_eq!(registry.requests().len(), usize::from(believed != u64::MAX), "{repository}:{tag}");
    }
}

#[tokio::test]
async fn an_immutable_tag_is_never_checked_again_whatever_upstream_does() {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "v1.0.0", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, RULES)).await;
    let path = "/v2/org/app/manifests/v1.0.0";
    assert_eq!(mirror.client().get(path).await.body, app.manifest);
    registry.delete_repository("org/app");
    let mirror = mirror.restart().await;
    // Within the days after which what nobody uses is forgotten.
    mirror.advance(Duration::from_hours(24 * 80));
    registry.forget_requests();
    let answer = mirror.client().get(path).await;
    assert_eq!((answer.body.clone(), answer.header("cache-status")), (app.manifest, "roadstead; hit"));
    assert!(!answer.headers.contains_key("warning") && registry.requests().is_empty());
}

#[tokio::test]
async fn a_404_is_believed_for_negative_ttl() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "negative_ttl = \"10s\"")).await;
    let app = image(&[blob(10, 1)]);
    let parts = ["manifests/1".to_owned(), format!("manifests/{}", app.digest), "tags/list".to_owned()];
    let statuses = async |advance: u64| {
        mirror.advance(Duration::from_secs(advance));
        let mut statuses = Vec::new();
        for part in &parts {
            statuses.push(mirror.client().get(&format!("/v2/org/app/{part}")).await.status);
        }
        statuses
    };
    assert_eq!(statuses(0).await, [404, 404, 404]);
    registry.publish("org/app", "1", &app);
    let asked = registry.requests().len();
    assert_eq!(statuses(0).await, [404, 404, 404]);
    assert_eq!(statuses(9).await, [404, 404, 404], "an answer from memory does not renew itself");
    assert_eq!(registry.requests().len(), asked);
    assert_eq!(statuses(2).await, [200, 200, 200]);
    let counted =
        "roadstead_requests_total{authority=\"docker.io\",kind=\"manifest\",outcome=\"negative\",status=\"404\"}";
    assert_eq!(mirror.metric(counted), 4.0);
}

#[tokio::test]
async fn a_negative_ttl_of_zero_believes_no_404() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "negative_ttl = \"0s\"")).await;
    let list = index(&[]);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 404);
    registry.publish("org/app", "1", &list);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
}

#[tokio::test]
async fn a_404_is_believed_where_it_was_said_and_nowhere_else() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    two.publish("org/app", "1", &index(&[]));
    let mirror = Mirror::start(upstream("one.test", &one, "") + &upstream("two.test", &two, "")).await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/one.test/org/app/manifests/1").await.status, 404);
    assert_eq!(client.get("/v2/two.test/org/app/manifests/1").await.status, 200);
    one.publish("org/other", "1", &index(&[]));
    assert_eq!(client.get("/v2/one.test/org/other/manifests/1").await.status, 200);
    assert_eq!(one.requests().len(), 2);
}
