//! Headers, ranges and conditions on manifests.

use http::Method;

use super::upstream;
use crate::support::client::Client;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn one() -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    (registry, mirror, app)
}

async fn get(client: &Client, reference: &str, headers: &[(&str, &str)]) -> crate::support::client::Answer {
    client.send(Method::GET, &format!("/v2/org/app/manifests/{reference}"), headers).await
}

#[tokio::test]
async fn every_answer_carries_the_required_headers() {
    let (_registry, mirror, app) = one().await;
    let client = mirror.client();
    let layer = app.layers()[0].clone();
    for (path, digest, size, media_type) in [
        ("manifests/1".to_owned(), &app.digest, app.manifest.len() as u64, app.media_type),
        (format!("manifests/{}", app.digest), &app.digest, app.manifest.len() as u64, app.media_type),
        (format!("blobs/{}", layer.digest), &layer.digest, layer.content.size(), "application/octet-stream"),
    ] {
        let is_tag = path.ends_with("/1");
        for method in [Method::HEAD, Method::GET, Method::HEAD] {
            let answer = client.send(method.clone(), &format!("/v2/org/app/{path}"), &[]).await;
            let what = format!("{method} {path}");
            assert_eq!(answer.status, 200, "{what}");
            assert_eq!(answer.header("docker-content-digest"), *digest, "{what}");
            assert_eq!(answer.header("content-length"), size.to_string(), "{what}");
            assert_eq!(answer.header("content-type"), media_type, "{what}");
            assert_eq!(answer.header("etag"), format!("\"{digest}\""), "{what}");
            assert_eq!(answer.header("accept-ranges"), "bytes", "{what}");
            let caching = if is_tag { "no-cache" } else { "public, max-age=31536000, immutable" };
            assert_eq!(answer.header("cache-control"), caching, "{what}");
            assert!(answer.header("cache-status").starts_with("roadstead; "), "{what}");
            assert_eq!(answer.headers.contains_key("age"), is_tag, "{what}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0", "{what}");
            assert!(!answer.headers.contains_key("www-authenticate"), "{what}");
            assert!(method == Method::GET || answer.body.is_empty(), "{what}");
        }
    }
}

#[tokio::test]
async fn the_ping_is_answered_with_and_without_its_slash() {
    let (registry, mirror, _app) = one().await;
    for path in ["/v2/", "/v2"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = mirror.client().send(method, path, &[]).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        }
    }
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn ranges_work_on_manifests_cold_and_warm() {
    let (_registry, mirror, app) = one().await;
    let client = mirror.client();
    let size = app.manifest.len();
    for reference in ["1", &app.digest] {
        for (range, from, to) in
            [("0-", 0, size), ("5-9", 5, 10), ("-7", size - 7, size), ("5-99999", 5, size), ("0-0", 0, 1)]
        {
            let answer = client.range(&format!("/v2/org/app/manifests/{reference}"), range).await;
            assert_eq!((answer.status, &answer.body[..]), (206, &app.manifest[from..to]), "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/{size}", to - 1));
            assert_eq!(answer.header("content-length"), (to - from).to_string());
            assert_eq!(answer.header("docker-content-digest"), app.digest);
        }
        for range in ["99999-", "9-5", "-0"] {
            let answer = client.range(&format!("/v2/org/app/manifests/{reference}"), range).await;
            assert_eq!((answer.status, answer.header("content-range")), (416, format!("bytes */{size}").as_str()));
            assert_eq!(answer.header("cache-control"), "no-store", "the content is immutable, a 416 is not");
            assert_eq!(answer.code(), "SIZE_INVALID");
        }
        let several = get(&client, reference, &[("range", "bytes=0-1,3-4")]).await;
        assert_eq!(several.status, 206);
        let parts = several.parts();
        assert_eq!(parts, [(0, app.manifest.slice(0..2)), (3, app.manifest.slice(3..5))]);
        for ignored in ["bytes=a-b", "lines=1-2", "bytes="] {
            let answer = get(&client, reference, &[("range", ignored)]).await;
            assert_eq!((answer.status, &answer.body), (200, &app.manifest), "{ignored}");
        }
    }
    let head = client.send(Method::HEAD, "/v2/org/app/manifests/1", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, size.to_string().as_str()), "HEAD ignores Range");
}

#[tokio::test]
async fn conditions_are_honoured() {
    let (registry, mirror, app) = one().await;
    let client = mirror.client();
    let etag = format!("\"{}\"", app.digest);
    for reference in ["1", &app.digest] {
        for matching in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let answer = get(&client, reference, &[("if-none-match", &matching)]).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{matching}");
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.header("docker-content-digest"), app.digest);
        }
        let answer = get(&client, reference, &[("if-none-match", "\"x\"")]).await;
        assert_eq!((answer.status, &answer.body), (200, &app.manifest));
        let answer = get(&client, reference, &[("range", "bytes=0-1"), ("if-range", &etag)]).await;
        assert_eq!(answer.status, 206);
        let answer = get(&client, reference, &[("range", "bytes=0-1"), ("if-range", "\"x\"")]).await;
        assert_eq!((answer.status, &answer.body), (200, &app.manifest));
    }
    // 304 only where a 200 would have been given.
    registry.publish("org/other", "2", &image(&[blob(10, 2)]));
    for path in [format!("/v2/org/other/manifests/{}", app.digest), "/v2/org/app/manifests/none".to_owned()] {
        let answer = client.send(Method::GET, &path, &[("if-none-match", "*")]).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_cold_head_of_a_manifest_starts_no_blob_fill() {
    let (registry, mirror, app) = one().await;
    let answer = mirror.client().head("/v2/org/app/manifests/1").await;
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, app.digest.as_str()));
    assert_eq!(registry.count(Method::GET, Kind::Blob) + registry.count(Method::HEAD, Kind::Blob), 0);
}
