//! Commands and the API say that something is blocked, and refuse what cannot be meant.

use serde_json::{Value, json};

use super::*;
use crate::looking::{api, roadstead, told};
use crate::operations::program::stderr;

#[tokio::test]
async fn inspect_coverage_export_and_warm_say_that_it_is_blocked() {
    let site = Site::start().await;
    let file = site.mirror.config_file();
    block(&site.mirror, &site.app.digest).await;
    let found = told(&file, &["inspect", "org/app:1"]).await;
    assert!(found["blocked"].as_str().unwrap().contains("bad news"), "{found}");
    let parts = found["images"][0]["parts"].as_array().unwrap();
    let of = |digest: &str| parts.iter().find(|part| part["digest"] == digest).unwrap()["is_blocked"].clone();
    assert_eq!((of(site.own()), of(site.shared())), (true.into(), false.into()));
    let question = json!({ "references": ["org/app:1", "org/tool:1"] });
    let covered = over_socket(&site.mirror, "POST", "coverage", &question).await.1;
    assert!(covered["items"][0]["problem"].as_str().unwrap().contains("bad news"), "{covered}");
    assert_eq!((&covered["items"][1]["outcome"], &covered["failed"]), (&"held".into(), &1.into()), "{covered}");
    let config = file.to_str().unwrap();
    let out = site.mirror.storage().join("../bundle.tar");
    for arguments in [&["export", "org/app:1", "--output", out.to_str().unwrap()][..], &["warm", "org/app:1"]] {
        let output = roadstead(&[arguments, &["--config", config]].concat()).await;
        let text = format!("{}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!output.status.success() && text.contains("bad news"), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn what_names_nothing_is_refused_and_changes_nothing() {
    let site = Site::start().await;
    let long = "x".repeat(501);
    for (query, status, why) in [
        ("", 400, "nothing is named"),
        ("block=docker.io", 400, "a block is"),
        ("block=sha256:12", 400, "a block is"),
        ("block=org/app:1&block=ghcr.io/org/app", 404, "not among the upstreams"),
        (&format!("block=org/app@{}", site.app.digest), 400, "leave the name out"),
        (&format!("block=org/app&reason={long}"), 400, "a reason is"),
        ("block=org/app&reason=a%0Ab", 400, "a reason is"),
    ] {
        let (told, answer) = over_socket(&site.mirror, "POST", &format!("blocks?{query}"), &Value::Null).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(told == status && message.contains(why), "{query}: {told} {message}");
    }
    let (told, _) = over_socket(&site.mirror, "DELETE", "blocks?block=docker.io/org/app", &Value::Null).await;
    assert_eq!((told, api(&site.mirror, "blocks").await.1), (404, json!({ "blocks": [] })));
    site.mirror.pull_whole("org/app", "1").await;
}

#[tokio::test]
async fn a_familiar_name_is_blocked_where_it_leads() {
    let registry = Upstream::start().await;
    registry.publish("library/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    block(&mirror, "index.docker.io/app:1").await;
    assert_eq!(api(&mirror, "blocks").await.1["blocks"][0]["what"], "docker.io/library/app:1");
    refused_in_every_way(&mirror, &manifest("app", "1")).await;
    refused_in_every_way(&mirror, &manifest("library/app", "1")).await;
}

#[tokio::test]
async fn t112_blocks_are_bounded() {
    let site = Site::start().await;
    let many = |first: usize, count: usize| {
        let names = (first..first + count).map(|nth| format!("block=docker.io/x/n{nth}"));
        format!("blocks?{}", names.collect::<Vec<_>>().join("&"))
    };
    assert_eq!(over_socket(&site.mirror, "POST", &many(0, 1001), &Value::Null).await.0, 400);
    for nth in 0..10 {
        assert_eq!(over_socket(&site.mirror, "POST", &many(nth * 1000, 1000), &Value::Null).await.0, 200);
    }
    let (status, refused) = over_socket(&site.mirror, "POST", &many(10_000, 1), &Value::Null).await;
    assert!(status == 413 && refused["error"]["code"] == "too_large", "{status}: {refused}");
    site.mirror.pull_whole("org/app", "1").await;
}
