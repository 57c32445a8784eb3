//! A manifest that is asked for often is answered from memory, and for no longer than it is true.

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::client::raw;
use crate::support::eventually;
use crate::support::image::{Builder, Image, image};
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1";

/// An image with everything of it in memory: pulled, and asked for twice.
async fn hot(lines: &str) -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(1000, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, lines)).await;
    mirror.pull_whole("org/app", "1").await;
    for path in [TAG.to_owned(), by_digest(&app), config(&app), layer(&app)] {
        for _ in 0..2 {
            assert_eq!(mirror.client().get(&path).await.header("cache-status"), "roadstead; hit", "{path}");
        }
    }
    registry.forget_requests();
    (registry, mirror, app)
}

fn by_digest(app: &Image) -> String {
    format!("/v2/org/app/manifests/{}", app.digest)
}

fn config(app: &Image) -> String {
    format!("/v2/org/app/blobs/{}", app.config().digest)
}

fn layer(app: &Image) -> String {
    format!("/v2/org/app/blobs/{}", app.layers()[0].digest)
}

#[tokio::test]
async fn a_hot_image_needs_no_disk() {
    let (registry, mirror, app) = hot("").await;
    let stored = || files_below(&mirror.storage().join("blobs"));
    eventually("manifest, config and layer are there", async || stored().len() == 3).await;
    for file in stored() {
        std::fs::remove_file(file).unwrap();
    }
    for path in [TAG.to_owned(), by_digest(&app), config(&app), layer(&app)] {
        let answer = mirror.client().get(&path).await;
        assert_eq!((answer.status, answer.header("cache-status")), (200, "roadstead; hit"), "{path}");
        assert_eq!(Some(answer.header("content-length")), Some(answer.body.len().to_string().as_str()));
    }
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn heads_ranges_and_conditions_are_answered_from_memory_as_from_disk() {
    let (_registry, mirror, app) = hot("").await;
    let client = mirror.client();
    for (path, bytes) in [(by_digest(&app), app.manifest.clone()), (config(&app), client.get(&config(&app)).await.body)]
    {
        let head = client.head(&path).await;
        assert_eq!((head.status, head.header("content-length")), (200, bytes.len().to_string().as_str()));
        assert!(head.body.is_empty());
        let part = client.range(&path, "1-3").await;
        assert_eq!((part.status, &part.body[..]), (206, &bytes[1..4]));
        assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", bytes.len()));
        assert_eq!(client.range(&path, "100000-").await.status, 416);
        let etag = head.header("etag").to_owned();
        let same = client.send(Method::GET, &path, &[("if-none-match", etag.as_str())]).await;
        assert_eq!((same.status, same.body.len()), (304, 0));
        let other = client.send(Method::GET, &path, &[("if-none-match", "\"sha256:0\"")]).await;
        assert_eq!((other.status, &other.body), (200, &bytes));
    }
}

#[tokio::test]
async fn t13_what_is_revoked_is_gone_from_memory_with_everything_in_its_repository() {
    for status in [401, 403] {
        let (registry, mirror, app) = hot("breaker_window = \"0s\"\non_denied = \"refuse\"").await;
        registry.script(every_request().always().status(status));
        mirror.advance(Duration::from_mins(2));
        assert_eq!(mirror.client().get(TAG).await.status, 403);
        for path in [by_digest(&app), config(&app), layer(&app), TAG.to_owned()] {
            let answer = mirror.client().get(&path).await;
            assert_eq!((answer.status, answer.code()), (403, "DENIED".to_owned()), "{status} {path}");
        }
    }
}

#[tokio::test]
async fn a_hot_tag_ages_by_the_clock_and_moves_when_upstream_moves_it() {
    let (registry, mirror, app) = hot("tag_ttl = \"1m\"").await;
    let client = mirror.client();
    let before: u64 = client.get(TAG).await.header("age").parse().unwrap();
    mirror.advance(Duration::from_secs(30));
    let answer = client.get(TAG).await;
    assert!(answer.header("age").parse::<u64>().unwrap() >= before + 30, "{}", answer.header("age"));
    let new = image(&[blob(10, 2)]);
    registry.publish("org/app", "1", &new);
    assert_eq!(client.get(TAG).await.body, app.manifest, "it is fresh still");
    mirror.advance(Duration::from_secs(31));
    for _ in 0..2 {
        assert_eq!(client.get(TAG).await.body, new.manifest);
    }
    // A tag that is gone stays gone.
    registry.remove_tag("org/app", "1");
    mirror.advance(Duration::from_mins(2));
    for _ in 0..2 {
        assert_eq!(client.get(TAG).await.status, 404);
    }
    assert_eq!(client.get(&by_digest(&app)).await.body, app.manifest, "what it pointed to stays");
}

#[tokio::test]
async fn what_was_not_used_for_ninety_days_is_asked_for_again_though_it_is_in_memory() {
    let (registry, mirror, app) = hot("").await;
    for path in [by_digest(&app), config(&app), layer(&app)] {
        assert_eq!(mirror.client().get(&path).await.status, 200);
        assert_eq!(registry.requests().len(), 0, "{path}");
        mirror.advance(Duration::from_hours(91 * 24));
        assert_eq!(mirror.client().get(&path).await.status, 200);
        assert!(!registry.requests().is_empty(), "{path}");
        mirror.pull_whole("org/app", "1").await;
        registry.forget_requests();
    }
}

#[tokio::test]
async fn kinds_repositories_and_authorities_are_apart_in_memory_too() {
    let (registry, mirror, app) = hot("").await;
    registry.blob("org/other", "something");
    let client = mirror.client();
    for path in [
        format!("/v2/org/app/blobs/{}", app.digest),
        format!("/v2/org/other/manifests/{}", app.digest),
        config(&app).replace("org/app", "org/other"),
    ] {
        for _ in 0..2 {
            assert_eq!(client.get(&path).await.status, 404, "{path}");
        }
    }
    assert!(registry.requests().len() >= 3, "upstream is asked");
}

#[tokio::test]
async fn one_content_has_in_memory_the_type_that_each_authority_gave_it() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let app = Builder::new().layer(blob(10, 1)).build();
    let types = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
    // Without a type of its own, it has the one it is served with.
    let mut value: serde_json::Value = serde_json::from_slice(&app.manifest).unwrap();
    value.as_object_mut().unwrap().remove("mediaType");
    let bytes = value.to_string();
    let digest = one.manifest("org/app", types[0], bytes.clone());
    assert_eq!(other.manifest("org/app", types[1], bytes), digest);
    let toml = upstream("docker.io", &one, "") + &upstream("quay.io", &other, "");
    let mirror = Mirror::start(toml).await;
    for _ in 0..3 {
        for (authority, media_type) in ["docker.io", "quay.io"].into_iter().zip(types) {
            let answer = mirror.client().get(&format!("/v2/{authority}/org/app/manifests/{digest}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, media_type));
        }
    }
    assert_eq!((one.gets_of(&digest), other.gets_of(&digest)), (1, 1));
}

#[tokio::test]
async fn a_way_that_is_known_by_heart_is_not_taken_for_another() {
    let (registry, mirror, app) = hot("").await;
    let client = mirror.client();
    // As asked before, but for one thing.
    assert_eq!(client.send(Method::PUT, TAG, &[]).await.status, 405);
    assert_eq!(client.send(Method::DELETE, &by_digest(&app), &[]).await.status, 405);
    let with_ns = client.get(&format!("{TAG}?ns=docker.io")).await;
    assert_eq!((with_ns.status, with_ns.header("oci-namespace")), (200, "docker.io"));
    let again = client.get(&format!("{TAG}?ns=docker.io")).await;
    assert_eq!((again.status, again.header("oci-namespace")), (200, "docker.io"));
    assert!(client.get(TAG).await.headers.get("oci-namespace").is_none());
    assert_eq!(client.get(&format!("{TAG}?ns=quay.io")).await.status, 404);
    let elsewhere = format!("GET {TAG} HTTP/1.1\r\nHost: docker.io\r\nConnection: close\r\n\r\n");
    assert!(raw(mirror.address, &elsewhere).await.starts_with("HTTP/1.1 200"));
    // A request that came through other proxies is told upstream, whichever way it is answered.
    mirror.advance(Duration::from_mins(2));
    registry.forget_requests();
    assert_eq!(client.send(Method::GET, TAG, &[("via", "1.1 another")]).await.status, 200);
    let asked = registry.requests();
    let via: Vec<_> = asked.iter().map(|asked| asked.headers["via"].to_str().unwrap().to_owned()).collect();
    assert!(via.iter().all(|via| via.starts_with("1.1 another, 1.1 roadstead-")), "{via:?}");
    let own = via[0].trim_start_matches("1.1 another, ").to_owned();
    assert_eq!(client.send(Method::GET, TAG, &[("via", own.as_str())]).await.status, 502, "a loop is seen");
}

#[tokio::test]
async fn a_small_blob_that_was_damaged_on_disk_is_fetched_again_and_not_served() {
    let (registry, mirror, app) = hot("").await;
    let path = layer(&app);
    let whole = mirror.client().get(&path).await.body;
    let stopped = mirror.stop().await;
    let (_, hex) = app.layers()[0].digest.split_once(':').unwrap();
    let stored = files_below(&stopped.storage().join("blobs")).into_iter().find(|file| file.ends_with(hex)).unwrap();
    std::fs::write(stored, vec![b'x'; whole.len()]).unwrap();
    let mirror = stopped.start().await;
    assert_eq!(mirror.client().get(&path).await.body, whole);
    assert_eq!(registry.gets_of(&app.layers()[0].digest), 1);
}
