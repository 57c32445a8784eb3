//! Redirects to signed URLs: good for one fill, for GET only, and long.

use super::{blob_path, hub};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn a_head_that_a_signed_url_refuses_is_asked_as_a_get_of_one_byte() {
    let (registry, network) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let digest = registry.blob("org/app", blob(300_000, 1));
    network.file("/signed", blob(300_000, 1));
    registry.script(blobs().always().redirect(&format!("{}/signed", network.url())));
    network.script(files().head().always().status(403));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let answer = mirror.client().head(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, "300000"));
    let ranges: Vec<_> = network.requests_of(&files().get()).into_iter().map(|request| request.range).collect();
    assert_eq!(ranges, [Some("bytes=0-0".to_owned())]);
}

#[tokio::test]
async fn a_resumed_download_asks_the_registry_for_a_new_url() {
    let (registry, network) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let content = blob(1_000_000, 1);
    let digest = registry.blob("org/app", &content);
    for n in 1..=2 {
        network.file(&format!("/signed/{n}"), &content);
        registry.script(blobs().get().once().redirect(&format!("{}/signed/{n}", network.url())));
    }
    network.script(files().once().cut_after(400_000));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    let paths: Vec<_> = network.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/signed/1", "/signed/2"], "an old URL may have expired");
}

#[tokio::test]
async fn an_expired_url_in_mid_download_is_replaced_and_is_no_verdict_on_the_repository() {
    let (registry, network) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let content = blob(1_000_000, 1);
    let digest = registry.blob("org/app", &content);
    network.file("/signed", &content);
    registry.script(blobs().always().redirect(&format!("{}/signed", network.url())));
    network.script(files().once().cut_after(400_000));
    network.script(files().ranged().once().status(403));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
}

#[tokio::test]
async fn a_location_is_not_used_for_the_next_download() {
    let (registry, network) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let mirror = Mirror::of("docker.io", registry.url()).await;
    for n in 1..=2 {
        let content = blob(1000, n);
        let digest = registry.blob("org/app", &content);
        network.file(&format!("/signed/{n}"), &content);
        registry.script(blobs().get().once().redirect(&format!("{}/signed/{n}", network.url())));
        assert_eq!(mirror.client().get(&blob_path("org/app", &digest)).await.status, 200);
    }
    assert_eq!(registry.requests().len(), 2, "the registry is asked each time");
}

#[tokio::test]
async fn urls_as_long_as_signatures_make_them_are_followed() {
    let ca = TestCa::new();
    let directory = tempfile::tempdir().unwrap();
    ca.write_pem(&directory.path().join("ca.pem"));
    let long = "s".repeat(40_000);
    for tls in [false, true] {
        let registry = if tls { Upstream::tls(&ca).await } else { Upstream::start().await };
        let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let digest = registry.manifest("org/app", "application/vnd.oci.image.manifest.v1+json", manifest.to_vec());
        registry.file("/signed", manifest.to_vec());
        registry.script(manifests().always().redirect(&format!("{}/signed?X-Signature={long}", registry.url())));
        let lines = format!("ca = \"{}\"", directory.path().join("ca.pem").display());
        let mirror = Mirror::start(hub(registry.url(), if tls { &lines } else { "" })).await;
        let answer = mirror.client().get(&format!("/v2/org/app/manifests/{digest}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}
