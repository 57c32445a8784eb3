//! Blocks are facts.

use serde_json::Value;

use super::*;
use crate::facts::backup::{config, run, said};
use crate::facts::lose_the_index;
use crate::looking::api;

async fn blocks(mirror: &Mirror) -> Vec<Value> {
    api(mirror, "blocks").await.1["blocks"].as_array().unwrap().clone()
}

#[tokio::test]
async fn t110_a_block_outlives_a_restart_and_the_index() {
    let Site { registry, mirror, app, .. } = Site::start().await;
    let own = layer("org/app", &app.layers()[1].digest);
    block(&mirror, &app.digest).await;
    block(&mirror, "docker.io/org/new:*").await;
    let before = blocks(&mirror).await;
    assert_eq!((before.len(), &before[1]["reason"]), (2, &"bad news".into()), "{before:?}");
    // Without the manifest, nothing but the block itself knows what it reaches.
    let removed = serde_json::json!({ "references": [format!("org/app@{}", app.digest)] });
    assert_eq!(over_socket(&mirror, "POST", "remove", &removed).await.0, 200);
    let mirror = mirror.restart().await;
    assert_eq!(blocks(&mirror).await, before);
    refused_in_every_way(&mirror, &own).await;
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(blocks(&mirror).await, before);
    refused_in_every_way(&mirror, &manifest("org/app", &app.digest)).await;
    refused_in_every_way(&mirror, &own).await;
    unblock(&mirror, &app.digest).await;
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(blocks(&mirror).await.len(), 1, "what was taken back does not come back");
    mirror.pull_whole("org/app", "1").await;
    drop(registry);
}

#[tokio::test]
async fn a_stopped_server_is_given_blocks_by_command() {
    let site = Site::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &site.mirror.storage());
    let running = run(&config, &["block", "add", "org/tool:1"]).await;
    assert!(!running.status.success() || said(&running).contains("docker.io/org/tool:1"), "{}", said(&running));
    let stopped = site.mirror.stop().await;
    let made = run(&config, &["block", "add", &site.app.digest, "--reason", "bad news"]).await;
    assert!(made.status.success() && said(&made).contains("bad news"), "{}", said(&made));
    let mirror = stopped.start().await;
    refused_in_every_way(&mirror, &manifest("org/app", "1")).await;
    let listed = run(&config, &["block", "ls", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed["blocks"].as_array().unwrap().iter().any(|block| block["what"] == *site.app.digest), "{listed}");
    let back = run(&config, &["block", "rm", &site.app.digest]).await;
    assert!(back.status.success(), "{}", said(&back));
    mirror.pull_whole("org/app", "1").await;
}
