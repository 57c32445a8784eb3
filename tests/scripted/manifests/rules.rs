//! `allow` and `deny` (docs/SECURITY-THREATS.md, T27).

use http::Method;

use super::upstream;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const RULES: &str = "allow = [\"library/**\", \"org/*\"]\ndeny = [\"org/secret\"]";

#[tokio::test]
async fn t27_a_denied_repository_is_refused_cold_and_warm_without_asking_upstream() {
    let registry = Upstream::start().await;
    let app = image(&[blob(100, 1)]);
    for repository in ["org/secret", "org/app", "org/deep/app", "other/app", "library/app"] {
        registry.publish(repository, "1", &app);
    }
    let layer = &app.layers()[0].digest;
    let parts = [
        "manifests/1".to_owned(),
        format!("manifests/{}", app.digest),
        format!("blobs/{layer}"),
        "tags/list".to_owned(),
        format!("referrers/{}", app.digest),
    ];
    // Warm: everything was pulled while there were no rules.
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    for repository in ["org/secret", "org/deep/app", "other/app"] {
        for part in &parts {
            assert_eq!(mirror.client().get(&format!("/v2/{repository}/{part}")).await.status, 200);
        }
    }
    let warm = mirror.stop().await.start_with(upstream("docker.io", &registry, RULES)).await;
    let cold = Mirror::start(upstream("docker.io", &registry, RULES)).await;
    registry.forget_requests();
    for mirror in [&warm, &cold] {
        for repository in ["org/secret", "org/deep/app", "other/app"] {
            for part in &parts {
                for method in [Method::GET, Method::HEAD] {
                    let path = format!("/v2/{repository}/{part}?ns=docker.io");
                    let answer = mirror.client().send(method.clone(), &path, &[]).await;
                    assert_eq!(answer.status, 403, "{method} {path}");
                    assert!(!answer.headers.contains_key("docker-content-digest"));
                    if method == Method::GET {
                        assert_eq!(answer.code(), "DENIED");
                        assert!(answer.text().contains("`allow`, `deny`"), "the message says which: {}", answer.text());
                    }
                }
            }
        }
    }
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
}

#[tokio::test]
async fn rules_see_the_name_as_it_is_filed() {
    let registry = Upstream::start().await;
    for repository in ["org/app", "library/app"] {
        registry.publish(repository, "1", &image(&[blob(100, 1)]));
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, RULES)).await;
    let client = mirror.client();
    for allowed in ["app", "library/app", "docker.io/app", "org/app", "docker.io/org/app"] {
        assert_eq!(client.get(&format!("/v2/{allowed}/manifests/1")).await.status, 200, "{allowed}");
    }
    for denied in ["org/secret", "docker.io/org/secret"] {
        assert_eq!(client.get(&format!("/v2/{denied}/manifests/1")).await.status, 403, "{denied}");
    }
}
