//! Bytes are shared, the right to read them is not.

use std::time::Duration;

use super::{eventually, mismatches, one, open, path_in, path_of, quiet};
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

#[tokio::test]
async fn t9_a_private_blob_is_not_served_in_a_repository_that_does_not_have_it() {
    for size in [100, SIZE] {
        let upstream = Upstream::start().await;
        let secret = blob(size, 1);
        let digest = upstream.blob("corp/secret", &secret);
        upstream.blob("corp/open", "something else");
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let client = mirror.client();
        assert_eq!(client.get(&path_in("corp/secret", &digest)).await.body, secret.to_bytes());
        quiet(&mirror).await;
        upstream.forget_requests();
        let path = path_in("corp/open", &digest);
        let answers = [client.get(&path).await, client.range(&path, "0-9").await];
        for answer in answers {
            assert_eq!((answer.status, answer.code()), (404, "BLOB_UNKNOWN".to_owned()));
        }
        assert_eq!(client.head(&path).await.status, 404);
        let asked = upstream.requests_of(&blobs().repository("corp/open"));
        assert!(!asked.is_empty(), "the upstream is asked, as for a blob that nobody holds");
        assert_eq!(client.get(&path_in("corp/secret", &digest)).await.header("cache-status"), "roadstead; hit");
    }
}

#[tokio::test]
async fn t9_a_running_fill_is_joined_only_where_upstream_says_yes() {
    let upstream = Upstream::start().await;
    let secret = blob(SIZE, 2);
    let digest = upstream.blob("corp/secret", &secret);
    upstream.blob("corp/copy", &secret);
    let gate = Gate::closed();
    upstream.script(blobs().get().repository("corp/secret").once().stall_after(1000, &gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let running = open(&client, &path_in("corp/secret", &digest)).await;
    assert_eq!(client.get(&path_in("corp/open", &digest)).await.status, 404);
    let copy = open(&client, &path_in("corp/copy", &digest)).await;
    assert_eq!(
        (copy.status().as_u16(), &copy.headers()["cache-status"]),
        (200, &"roadstead; fwd=miss; collapsed".parse().unwrap())
    );
    assert_eq!(upstream.requests_of(&blobs().get().repository("corp/copy")).len(), 0);
    gate.open();
    drop((running, copy));
}

#[tokio::test]
async fn one_layer_in_ten_repositories_costs_one_download_and_a_head_each() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = content.sha256();
    let repositories: Vec<_> = (0..10).map(|n| format!("library/app{n}")).collect();
    for repository in &repositories {
        upstream.blob(repository, &content);
    }
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for _round in 0..2 {
        for repository in &repositories {
            assert!(mirror.client().get(&path_in(repository, &digest)).await.body == content.to_bytes());
            quiet(&mirror).await;
        }
    }
    assert_eq!((upstream.gets_of(&digest), upstream.heads_of(&digest)), (1, 9));
}

#[tokio::test]
async fn t9_a_manifest_that_lists_a_blob_is_no_proof_of_it() {
    let upstream = Upstream::start().await;
    let secret = blob(SIZE, 4);
    let digest = upstream.blob("corp/secret", &secret);
    let thief = image(std::slice::from_ref(&secret));
    upstream.publish("evil/thief", "latest", &thief);
    upstream.remove_blob("evil/thief", &digest);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    client.get(&path_in("corp/secret", &digest)).await;
    quiet(&mirror).await;
    assert_eq!(client.get("/v2/evil/thief/manifests/latest").await.status, 200);
    assert_eq!(client.get(&path_in("evil/thief", &digest)).await.status, 404);
}

/// A front door that answers everything with 200 and its own page says yes to nothing.
#[tokio::test]
async fn t9_a_yes_to_something_of_another_size_is_no_proof() {
    let upstream = Upstream::start().await;
    let secret = blob(SIZE, 5);
    let digest = upstream.blob("corp/secret", &secret);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    client.get(&path_in("corp/secret", &digest)).await;
    quiet(&mirror).await;
    upstream.script(blobs().repository("corp/open").always().html());
    let answer = client.get(&path_in("corp/open", &digest)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(mismatches(&mirror), 1);
}

#[tokio::test]
async fn t20_a_manifest_is_not_served_as_a_blob_nor_a_blob_as_a_manifest() {
    let upstream = Upstream::start().await;
    let image = image(&[blob(1000, 6)]);
    let digest = upstream.publish("library/app", "latest", &image);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/library/app/manifests/latest").await.status, 200);
    assert_eq!(client.get(&path_of(&digest)).await.status, 404, "upstream has no such blob");
    let layer = &image.layers()[0].digest;
    assert_eq!(client.get(&path_of(layer)).await.status, 200);
    quiet(&mirror).await;
    assert_eq!(client.get(&format!("/v2/library/app/manifests/{layer}")).await.status, 404);
    // Bytes that upstream serves as a blob are one, also where they are a manifest.
    upstream.blob("library/app", image.manifest.clone());
    mirror.advance(Duration::from_secs(11));
    let as_blob = client.get(&path_of(&digest)).await;
    assert_eq!((as_blob.status, as_blob.header("content-type")), (200, "application/octet-stream"));
    let as_manifest = client.get(&format!("/v2/library/app/manifests/{digest}")).await;
    assert_eq!(as_manifest.header("content-type"), image.media_type);
}

#[tokio::test]
async fn one_grant_of_a_public_upstream_opens_the_whole_authority() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 7);
    let digest = upstream.blob("library/app", &content);
    let toml = one(&upstream, "public = true\ndeny = [\"corp/**\"]");
    let mirror = Mirror::start(toml).await;
    let client = mirror.client();
    client.get(&path_of(&digest)).await;
    quiet(&mirror).await;
    upstream.forget_requests();
    assert!(client.get(&path_in("library/other", &digest)).await.body == content.to_bytes());
    assert!(upstream.requests().is_empty());
    assert_eq!(client.get(&path_in("corp/app", &digest)).await.status, 403, "rules come first");
}

#[tokio::test]
async fn grants_outlive_a_restart() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 8));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(&path_of(&digest)).await;
    quiet(&mirror).await;
    let mirror = mirror.restart().await;
    upstream.stop().await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert_eq!((sha256(&answer.body), answer.header("cache-status")), (digest, "roadstead; hit"));
}

/// Nobody could grant the one again; the other was to be kept whatever comes.
#[tokio::test]
async fn grants_of_what_is_pinned_and_of_offline_upstreams_do_not_expire() {
    let upstream = Upstream::start().await;
    let image = image(&[blob(SIZE, 9)]);
    upstream.publish("library/app", "latest", &image);
    let layer = path_of(&image.layers()[0].digest);
    let manifest = format!("/v2/library/app/manifests/{}", image.digest);
    let online = one(&upstream, "");
    for (storage, toml) in [
        ("pins = [\"docker.io/library/**\"]", online.clone()),
        ("", one(&upstream, "offline = true")),
        ("", online.clone()),
    ] {
        let mirror = Mirror::start(online.clone()).await;
        for path in [&manifest, &layer] {
            mirror.client().get(path).await;
        }
        quiet(&mirror).await;
        let is_kept = !storage.is_empty() || toml != online;
        let mirror = mirror.stop().await.start_in(storage, toml).await;
        eventually("pins are known", async || mirror.inner().cache().pins.are_known(&mirror.inner().cache().index))
            .await;
        mirror.advance(Duration::from_hours(24) * 100);
        mirror.inner().expire_grants().await;
        upstream.forget_requests();
        for path in [&manifest, &layer] {
            let answer = mirror.client().get(path).await;
            assert_eq!(answer.header("cache-status") == "roadstead; hit", is_kept, "{path} {storage}");
        }
        assert_eq!(upstream.requests().is_empty(), is_kept, "{storage}");
    }
}

#[tokio::test]
async fn grants_without_use_for_ninety_days_are_dropped() {
    const DAY: Duration = Duration::from_hours(24);
    let upstream = Upstream::start().await;
    let image = image(&[blob(SIZE, 9)]);
    upstream.publish("library/app", "latest", &image);
    let layer = path_of(&image.layers()[0].digest);
    let manifest = format!("/v2/library/app/manifests/{}", image.digest);
    let mut mirror = Mirror::of("docker.io", upstream.url()).await;
    for path in [&layer, &manifest] {
        mirror.client().get(path).await;
    }
    quiet(&mirror).await;
    upstream.forget_requests();
    // Used in between, they stay.
    for _ in 0..2 {
        mirror.advance(60 * DAY);
        for path in [&layer, &manifest] {
            assert_eq!(mirror.client().get(path).await.header("cache-status"), "roadstead; hit");
        }
        // The note of a use is written behind the answer, and at the latest here.
        mirror = mirror.restart().await;
    }
    assert!(upstream.requests().is_empty());
    mirror.advance(92 * DAY);
    for path in [&layer, &manifest] {
        let answer = mirror.client().get(path).await;
        assert_eq!((answer.status, answer.header("cache-status")), (200, "roadstead; fwd=stale; fwd-status=304"));
    }
    assert_eq!(upstream.requests().iter().filter(|request| request.method == http::Method::GET).count(), 0);
    assert_eq!(upstream.requests().len(), 2);
}
