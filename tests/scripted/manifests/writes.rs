//! Nothing is written or deleted through the mirror (docs/SECURITY-THREATS.md, T25, T26, T35).

use http::Method;

use super::upstream;
use crate::support::image::image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

const WRITES: [Method; 6] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];

#[tokio::test]
async fn t25_t26_every_write_is_refused_everywhere_and_changes_nothing() {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    let client = mirror.client();
    let layer = &app.layers()[0].digest;
    assert_eq!(client.get("/v2/org/app/manifests/1").await.status, 200);
    assert_eq!(client.get(&format!("/v2/org/app/blobs/{layer}")).await.status, 200);
    registry.forget_requests();
    for path in [
        "/v2/".to_owned(),
        "/v2".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/org/app/manifests/1".to_owned(),
        "/v2/org/app/manifests/new".to_owned(),
        format!("/v2/org/app/manifests/{}", app.digest),
        format!("/v2/org/app/blobs/{layer}"),
        "/v2/org/app/blobs/uploads/".to_owned(),
        "/v2/org/app/blobs/uploads".to_owned(),
        format!("/v2/org/app/blobs/uploads/?mount={layer}&from=other/app"),
        format!("/v2/org/app/blobs/uploads/?digest={layer}"),
        "/v2/org/app/blobs/uploads/0000-1111".to_owned(),
        "/v2/org/app/tags/list".to_owned(),
        "/v2/org/app/tags/1".to_owned(),
        "/v2/org/app/tags/reference/1".to_owned(),
        format!("/v2/org/app/referrers/{}", app.digest),
        "/v2/org/app".to_owned(),
        "/v2/scanner-robot/app/manifests/1?ns=docker.io".to_owned(),
        "/v2/unknown.test/app/manifests/1".to_owned(),
        "/v2/UPPER/manifests/1".to_owned(),
    ] {
        for method in WRITES {
            let answer = client.send(method.clone(), &path, &[]).await;
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
            assert_eq!(answer.code(), "UNSUPPORTED", "{method} {path}");
        }
    }
    assert!(registry.requests().is_empty());
    assert_eq!(client.get("/v2/org/app/manifests/1").await.body, app.manifest);
    assert_eq!(client.get(&format!("/v2/org/app/blobs/{layer}")).await.status, 200);
    assert!(registry.requests().is_empty(), "what was held is held still");
}

#[tokio::test]
async fn there_is_no_catalog_and_there_are_no_uploads() {
    let mirror = Mirror::of("docker.io", "http://127.0.0.1:9").await;
    for path in ["/v2/_catalog", "/v2/_catalog?n=10", "/v2/org/app/blobs/uploads/", "/v2/org/app/blobs/uploads/x"] {
        let answer = mirror.client().get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{path}");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn t15_a_pull_of_what_is_not_there_leaves_no_trace() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    for path in ["manifests/1".to_owned(), format!("blobs/sha256:{}", "0".repeat(64)), "tags/list".to_owned()] {
        assert_eq!(mirror.client().get(&format!("/v2/made/up/{path}")).await.status, 404);
    }
    assert!(files_below(&mirror.storage().join("blobs")).is_empty());
    registry.stop().await;
    mirror.advance(std::time::Duration::from_mins(5));
    assert_eq!(mirror.client().get("/v2/made/up/tags/list").await.status, 502, "no repository was made");
}

#[tokio::test]
async fn t35_the_public_address_serves_nothing_but_v2() {
    let mirror = Mirror::of("docker.io", "http://127.0.0.1:9").await;
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/healthz",
        "/api/v1",
        "/api/v1/tags",
        "/_admin",
        "/debug/pprof",
        "/v1/",
        "/v2x",
        "/v3/",
        "/v2/../metrics",
        "/favicon.ico",
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let answer = mirror.client().send(method, path, &[]).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(!answer.text().contains("roadstead_"));
        }
    }
}
