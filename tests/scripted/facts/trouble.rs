//! Facts that cannot be written cost requests, not pulls; and they are written when the disk takes them again.

use std::os::unix::fs::PermissionsExt as _;

use super::{eventually, lose_the_index, serves_as_before};
use crate::support::client::Client;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn a_journal_that_cannot_be_written_fails_no_pull_is_told_and_heals() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(50_000, 1)]);
    upstream.publish("org/app", "1", &app);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let (facts, away) = (mirror.storage().join("facts"), mirror.storage().join("facts-away"));
    std::fs::rename(&facts, &away).unwrap();
    std::fs::write(&facts, "in the way").unwrap();
    let paths = ["/v2/org/app/manifests/1".to_owned(), format!("/v2/org/app/blobs/{}", app.layers()[0].digest)];
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
    let well = || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#);
    eventually("it is told", async || well() == 0.0).await;
    let ready = Client::new(mirror.admin).get("/readyz").await;
    assert_eq!(ready.status, 200, "pulls go on");
    assert!(ready.text().starts_with("ready\ndegraded: index: facts cannot be written"), "{}", ready.text());
    std::fs::remove_file(&facts).unwrap();
    std::fs::rename(&away, &facts).unwrap();
    eventually("it heals", async || well() == 1.0).await;
    assert_eq!(Client::new(mirror.admin).get("/readyz").await.text(), "ready\n");
    upstream.forget_requests();
    // What was kept back is known, and durably.
    assert_eq!(mirror.client().get(&paths[0]).await.header("cache-status"), "roadstead; hit");
    assert_eq!(upstream.requests().len(), 0);
    serves_as_before(upstream, mirror, &paths, lose_the_index).await;
}

#[tokio::test]
async fn facts_are_for_their_owner_only() {
    let upstream = Upstream::start().await;
    upstream.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    let mode = |path: &str| std::fs::metadata(mirror.storage().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("facts"), mode("facts/journal-000000000001.jsonl")), (0o750, 0o640));
}
