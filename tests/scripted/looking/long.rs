//! Changes that take long are jobs: listed, followed, ended; on a stopped storage, too.

use serde_json::{Value, json};

use super::{SHARED, Site, api, bytes, over_socket, roadstead, stdout, told};
use crate::operations::program::stderr;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Starts a job, which answers at once.
async fn begin(mirror: &Mirror, call: &str, mut order: Value) -> String {
    order["job"] = true.into();
    let (status, begun) = over_socket(mirror, "POST", call, &order).await;
    assert_eq!(status, 202, "{call}: {begun}");
    begun["job"]["id"].as_str().unwrap().to_owned()
}

/// A job when it has ended, with its items.
async fn ended(mirror: &Mirror, id: &str) -> Value {
    eventually("the job ends", async || api(mirror, &format!("jobs/{id}")).await.1["job"]["state"] != "running").await;
    api(mirror, &format!("jobs/{id}")).await.1
}

#[tokio::test]
async fn a_refresh_that_takes_long_is_a_job_that_is_listed_and_ended() {
    let site = Site::start().await;
    let gate = Gate::closed();
    site.registry.script(manifests().always().stall_before_headers(&gate));
    let id = begin(&site.mirror, "refresh", json!({ "globs": ["docker.io/org/*:*"] })).await;
    eventually("upstream is asked", async || gate.arrivals() > 0).await;
    let (_, listed) = api(&site.mirror, "jobs").await;
    let job = &listed["jobs"][0];
    assert_eq!((&job["id"], &job["kind"], &job["state"]), (&json!(id), &"refresh".into(), &"running".into()), "{job}");
    let (status, _) = over_socket(&site.mirror, "POST", &format!("jobs/{id}/cancel"), &Value::Null).await;
    assert_eq!(status, 202);
    let job = ended(&site.mirror, &id).await;
    assert_eq!((&job["job"]["state"], &job["job"]["problem"]), (&"stopped".into(), &"it was cancelled".into()));
    gate.open();
    site.registry.clear_script();
    let id = begin(&site.mirror, "refresh", json!({ "globs": ["docker.io/org/*:*"] })).await;
    let job = ended(&site.mirror, &id).await;
    assert_eq!(
        (&job["job"]["state"], &job["job"]["items"], &job["job"]["failed"]),
        (&"done".into(), &3.into(), &0.into())
    );
    assert_eq!(job["items"][0]["digest"], site.app.digest.as_str());
    for wrong in [json!({ "globs": [], "job": true }), json!({ "globs": ["a"], "after": "x", "job": true })] {
        assert_eq!(over_socket(&site.mirror, "POST", "refresh", &wrong).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_repository_is_removed_and_the_cache_is_emptied_by_jobs() {
    let site = Site::start().await;
    let id = begin(&site.mirror, "remove", json!({ "references": ["org/app", "org/none"] })).await;
    let removed = ended(&site.mirror, &id).await;
    let (app, none) = (&removed["items"][0], &removed["items"][1]);
    let own = bytes(&site.amd64) - SHARED + site.app.manifest.len() as u64;
    assert_eq!((&app["outcome"], &app["bytes"]), (&"done".into(), &own.into()), "{removed}");
    assert_eq!((&none["outcome"], &removed["job"]["bytes"]), (&"missing".into(), &own.into()), "{removed}");
    assert_eq!(site.mirror.client().get(&format!("/v2/org/tool/manifests/{}", site.tool.digest)).await.status, 200);
    let id = begin(&site.mirror, "gc", json!({ "to": "1KiB" })).await;
    let gone = ended(&site.mirror, &id).await;
    let evicted = &gone["job"]["evicted"];
    assert_eq!((&gone["job"]["state"], &evicted["done"]), (&"done".into(), &true.into()), "{gone}");
    assert!(evicted["evicted_bytes"].as_u64() >= Some(SHARED) && gone["job"]["bytes"] == evicted["evicted_bytes"]);
}

#[tokio::test]
async fn refresh_rm_and_gc_work_on_a_stopped_storage() {
    let site = Site::start().await;
    let moved = image(&[blob(77, 9)]);
    site.registry.tag("org/tool", "latest", &site.registry.publish_untagged("org/tool", &moved));
    let stopped = site.mirror.stop().await;
    let file = stopped.config_file();
    let file = file.to_str().unwrap();
    let output = roadstead(&["refresh", "docker.io/org/*:*", "--json", "--config", file]).await;
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(0), 4), "{}{}", stdout(&output), stderr(&output));
    assert_eq!((&lines[2]["outcome"], &lines[2]["digest"]), (&"done".into(), &moved.digest.as_str().into()));
    assert_eq!(lines[3], json!({ "done": true, "items": 3, "failed": 0 }));
    let none = roadstead(&["refresh", "docker.io/none/*:*", "--config", file]).await;
    assert!(none.status.success() && stderr(&none).contains("nothing is named"), "{}", stderr(&none));
    let many: Vec<String> = (0..1500).map(|n| format!("org/none:{n}")).chain(["org/app:1".to_owned()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let command = [&["rm", "--json", "--dry-run", "--config", file][..], &many].concat();
    let output = roadstead(&command).await;
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 1502), "{}", stderr(&output));
    assert_eq!((&lines[1500]["outcome"], &lines[1500]["tags"]), (&"done".into(), &json!(["1"])), "{}", lines[1500]);
    assert_eq!(lines[1501], json!({ "done": true, "items": 1501, "failed": 1500 }));
    let running = stopped.start().await;
    let output = roadstead(&command).await;
    let again: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(again, lines, "a running server tells the same, by two jobs");
    let stopped = running.stop().await;
    let gone = told(&stopped.config_file(), &["gc", "--to", "1KiB"]).await;
    assert!(gone["used_bytes"].as_u64() <= Some(1024) && gone["evicted_blobs"].as_u64() > Some(5), "{gone}");
}
