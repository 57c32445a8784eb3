//! Trouble of an upstream is where operators look: log, status, readiness and metrics.

use serde_json::Value;

use super::program::Program;
use crate::support::client::Client;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const APP: &str = "/v2/library/app/manifests/1";

/// `docker.io`, asked again at once after a failure.
fn hub(upstream: &Upstream) -> String {
    format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nbreaker_window = \"0s\"\ntag_ttl = \"0s\"\n", upstream.url())
}

async fn troubles(mirror: &Mirror) -> Value {
    Client::new(mirror.admin).get("/api/v1/status").await.json()["upstream_troubles"].take()
}

async fn readyz(mirror: &Mirror) -> String {
    let ready = Client::new(mirror.admin).get("/readyz").await;
    assert_eq!(ready.status, 200, "pulls are answered");
    ready.text()
}

fn gauge(mirror: &Mirror, upstream: &Upstream, trouble: &str) -> f64 {
    let host = upstream.host();
    mirror.metric(&format!(
        "roadstead_upstream_trouble{{authority=\"docker.io\",endpoint=\"{host}\",trouble=\"{trouble}\"}}"
    ))
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_once_when_it_begins_and_once_when_it_ends() {
    let upstream = Upstream::start().await;
    let storage = tempfile::tempdir().unwrap();
    let toml = format!("[storage]\npath = \"{}\"\n{}", storage.path().join("data").display(), hub(&upstream));
    let program = Program::of(&toml).await;
    upstream.stop().await;
    for _ask in 0..3 {
        assert_eq!(program.client().get(APP).await.status, 502);
    }
    let begun = program.line("an upstream is in trouble").await;
    assert!(begun.contains("WARN") && begun.contains("docker.io") && begun.contains("unreachable"), "{begun}");
    assert!(begun.contains("what is stored is served") && begun.contains("check network"), "{begun}");
    let ready = program.admin_client().get("/readyz").await.text();
    assert!(
        ready.starts_with("ready\nupstream: docker.io (127.0.0.1:") && ready.contains("unreachable since"),
        "{ready}"
    );
    let activity = program.admin_client().get("/api/v1/activity").await.json();
    let warnings = activity["warnings"].as_array().unwrap();
    let told =
        warnings.iter().filter(|warning| warning["text"].as_str().unwrap().starts_with("an upstream is in trouble"));
    assert_eq!(told.clone().count(), 1, "{warnings:?}");
    assert!(
        told.clone().all(|warning| warning["text"].as_str().unwrap().contains(" upstream=docker.io ")),
        "{warnings:?}"
    );
    assert!(!warnings.iter().any(|warning| warning["text"].as_str().unwrap().starts_with("request")), "{warnings:?}");
    assert!(program.admin_client().get("/").await.text().contains("Last warnings in the log"));
    upstream.restart().await;
    assert_eq!(program.client().get(APP).await.status, 404, "it answers again");
    let ended = program.line("an upstream's trouble is over").await;
    assert!(ended.contains("WARN") && ended.contains("docker.io"), "{ended}");
    assert_eq!(program.admin_client().get("/readyz").await.text(), "ready\n");
    program.signal("TERM");
    let (_, log, _) = program.ended().await;
    assert_eq!((log.matches("in trouble").count(), log.matches("trouble is over").count()), (1, 1), "{log}");
}

#[tokio::test]
async fn an_upstream_that_rations_is_shown_with_what_to_do_until_it_answers() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::start(hub(&upstream)).await;
    assert_eq!((readyz(&mirror).await, troubles(&mirror).await), ("ready\n".to_owned(), Value::Array(Vec::new())));
    let rationed = upstream.script(manifests().always().status(429));
    assert_eq!(mirror.client().get(APP).await.status, 429);
    let shown = troubles(&mirror).await;
    assert_eq!((&shown[0]["upstream"], &shown[0]["trouble"]), (&"docker.io".into(), &"rationed".into()), "{shown}");
    assert!(shown[0]["remedy"].as_str().unwrap().contains("credentials of its own"), "{shown}");
    assert!(shown[0]["since"].as_u64().unwrap() > 0 && shown[1].is_null(), "{shown}");
    assert_eq!(gauge(&mirror, &upstream, "rationed"), 1.0);
    assert!(readyz(&mirror).await.contains("it has rationed this mirror (429), for manifests"));
    rationed.revoke();
    assert_eq!(mirror.client().get(APP).await.status, 404);
    assert_eq!(troubles(&mirror).await, Value::Array(Vec::new()));
    assert_eq!((readyz(&mirror).await, gauge(&mirror, &upstream, "rationed")), ("ready\n".to_owned(), 0.0));
}

/// One bad answer is no trouble, and a 404 is a good one.
#[tokio::test]
async fn an_upstream_that_fails_again_and_again_is_shown_and_one_that_failed_once_is_not() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::start(hub(&upstream)).await;
    let failing = upstream.script(manifests().always().status(503));
    assert_eq!(mirror.client().get(APP).await.status, 502);
    assert_eq!(troubles(&mirror).await, Value::Array(Vec::new()));
    for _ask in 0..10 {
        assert_eq!(mirror.client().get(APP).await.status, 502);
    }
    let shown = troubles(&mirror).await;
    assert_eq!((&shown[0]["trouble"], &shown[0]["why"]), (&"failing".into(), &"it failed with status 503".into()));
    failing.revoke();
    assert_eq!(mirror.client().get(APP).await.status, 404);
    assert_eq!(troubles(&mirror).await, Value::Array(Vec::new()));
}

#[tokio::test]
async fn t60_readyz_names_no_upstream_to_strangers() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::builder(hub(&upstream)).admin_listen("0.0.0.0:0").start().await;
    upstream.stop().await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    let admin = Client::new(([127, 0, 0, 1], mirror.admin.port()).into());
    let ready = admin.get("/readyz").await.text();
    assert_eq!(ready, "ready\nupstream: 1 in trouble; `roadstead status` names them\n");
}
