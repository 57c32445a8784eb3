//! File descriptors that run out.

use crate::blobs::process::Process;
use crate::support::client::Client;
use crate::support::image::image;
use crate::support::upstream::*;

/// A limit of this process says nothing about the registry.
#[tokio::test]
async fn too_many_open_files_are_not_taken_for_a_registry_that_is_down_and_heal() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    upstream.publish("org/app", "1", &app);
    let directory = tempfile::tempdir().unwrap();
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nbreaker_window = \"1h\"\n", upstream.url());
    let process = Process::start_on(directory.path(), &directory.path().join("data"), &toml).await;
    // Connected while that is possible.
    let client = Client::new(process.address());
    assert_eq!(client.get("/v2/").await.status, 200);
    let before = process.limit_descriptors(1);
    for _ in 0..10 {
        let refused = client.get("/v2/org/app/manifests/1").await;
        assert_eq!(refused.status, 503, "{}", refused.text());
    }
    assert!(upstream.requests().is_empty());
    process.limit_descriptors(before);
    let answer = client.get("/v2/org/app/manifests/1").await;
    assert!(answer.status == 200 && answer.body == app.manifest, "{}", answer.text());
    let layer = &app.layers()[0];
    let answer = client.get(&format!("/v2/org/app/blobs/{}", layer.digest)).await;
    assert!(answer.body == layer.content.to_bytes());
    assert_eq!(process.metric(r#"roadstead_storage_healthy{part="store_writes"}"#).await, 1.0);
}
