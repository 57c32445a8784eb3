//! Who pulled what.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{over_socket, roadstead, stdout, told};
use crate::operations::program::stderr;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const DAY: Duration = Duration::from_hours(24);

/// `org/app:1`, and a mirror that records who pulls it.
async fn recording(more: &str) -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(1000, 1)]);
    registry.publish("org/app", "1", &app);
    let toml = format!("{more}\n[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mirror = Mirror::start(toml).await;
    (registry, mirror, app)
}

/// What is recorded of a name, the last pull first.
async fn pulls(mirror: &Mirror, reference: &str) -> Vec<Value> {
    let (status, found) = over_socket(mirror, "GET", &format!("who?reference={reference}"), &Value::Null).await;
    assert_eq!(status, 200, "{reference}: {found}");
    found["pulls"].as_array().unwrap().clone()
}

async fn eventually_recorded(mirror: &Mirror, reference: &str, count: usize) -> Vec<Value> {
    eventually("it is written down", async || pulls(mirror, reference).await.len() == count).await;
    pulls(mirror, reference).await
}

#[tokio::test]
async fn who_lists_clients_with_the_tag_and_the_time_over_a_restart() {
    let (_registry, mirror, app) = recording("[who]").await;
    let (by_tag, by_digest) = ("/v2/org/app/manifests/1", format!("/v2/org/app/manifests/{}", app.digest));
    let client = mirror.client();
    // As containerd does.
    assert_eq!(client.head(by_tag).await.status, 200);
    assert_eq!(client.get(&by_digest).await.status, 200);
    let found = eventually_recorded(&mirror, "org/app", 2).await;
    for pull in &found {
        assert_eq!((&pull["who"], &pull["digest"]), (&"127.0.0.1".into(), &app.digest.clone().into()), "{pull}");
        assert_eq!((&pull["repository"], &pull["count"]), (&"docker.io/org/app".into(), &1.into()), "{pull}");
    }
    let tags: Vec<&Value> = found.iter().map(|pull| &pull["tag"]).collect();
    assert!(tags.contains(&&json!("1")) && tags.contains(&&Value::Null), "{tags:?}");
    let mirror = mirror.restart().await;
    mirror.advance(10 * DAY);
    assert_eq!(mirror.client().get(by_tag).await.status, 200);
    eventually("the second pull is counted", async || pulls(&mirror, "org/app:1").await[0]["count"] == 2).await;
    let pull = pulls(&mirror, "org/app:1").await.remove(0);
    let days = (pull["last"].as_u64().unwrap() - pull["first"].as_u64().unwrap()) / 86_400_000;
    assert_eq!(days, 10, "{pull}");
    let file = mirror.config_file();
    // The command has the clock of this machine.
    let answer = told(&file, &["who", &app.digest]).await;
    assert_eq!(answer["pulls"].as_array().unwrap().len(), 2, "{answer}");
    let (_, recent) = over_socket(&mirror, "GET", "who?reference=org/app&since=5d", &Value::Null).await;
    assert_eq!(recent["pulls"].as_array().unwrap().len(), 1, "{recent}");
    let text = roadstead(&["who", "org/app:1", "--config", file.to_str().unwrap()]).await;
    assert!(text.status.success() && stdout(&text).contains("127.0.0.1"), "{}{}", stdout(&text), stderr(&text));
}

#[tokio::test]
async fn a_layer_leads_to_those_who_pulled_its_images() {
    let (_registry, mirror, app) = recording("[who]").await;
    mirror.pull_whole("org/app", "1").await;
    let found = eventually_recorded(&mirror, &app.layers()[0].digest, 1).await;
    assert_eq!((&found[0]["digest"], &found[0]["tag"]), (&app.digest.into(), &"1".into()));
}

#[tokio::test]
async fn an_identity_is_listed_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "node-1 node-secret-marker\n").unwrap();
    let access = format!("[who]\n[access]\nheader = {{ name = \"X-Key\", keys = \"{}\" }}", keys.display());
    let (_registry, mirror, _app) = recording(&access).await;
    for headers in [&[("x-key", "node-secret-marker")][..], &[]] {
        let answer = mirror.client().send(Method::GET, "/v2/org/app/manifests/1", headers).await;
        assert_eq!(answer.status, 200);
    }
    let found = eventually_recorded(&mirror, "org/app:1", 2).await;
    let mut who: Vec<&str> = found.iter().map(|pull| pull["who"].as_str().unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, ["127.0.0.1", "node-1"]);
}

#[tokio::test]
async fn what_was_refused_or_is_not_there_is_no_pull() {
    let (_registry, mirror, app) = recording("[who]").await;
    let client = mirror.client();
    over_socket(&mirror, "POST", &format!("blocks?block={}", app.digest), &Value::Null).await;
    assert_eq!(client.get("/v2/org/app/manifests/1").await.status, 403);
    assert_eq!(client.get("/v2/org/app/manifests/none").await.status, 404);
    over_socket(&mirror, "DELETE", &format!("blocks?block={}", app.digest), &Value::Null).await;
    assert_eq!(client.get("/v2/org/app/manifests/1").await.status, 200);
    let found = eventually_recorded(&mirror, "org/app", 1).await;
    assert_eq!(found[0]["count"], 1);
}

#[tokio::test]
async fn pulls_are_kept_for_so_long_and_no_longer() {
    let (registry, mirror, app) = recording("[who]\nkeep = \"7d\"").await;
    let other = image(&[blob(10, 2)]);
    registry.publish("org/other", "1", &other);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    eventually_recorded(&mirror, &app.digest, 1).await;
    mirror.advance(9 * DAY);
    assert_eq!(mirror.client().get("/v2/org/other/manifests/1").await.status, 200);
    eventually_recorded(&mirror, "org/other", 1).await;
    assert_eq!(pulls(&mirror, "org/app").await, Vec::<Value>::new());
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_configured_and_who_needs_the_token() {
    let (_registry, mirror, _app) = recording("").await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    let mirror = mirror.restart().await;
    assert_eq!(pulls(&mirror, "org/app").await, Vec::<Value>::new());
    let over_network = Client::new(mirror.admin).get("/api/v1/who?reference=org/app").await;
    assert_eq!(over_network.status, 401, "it names clients");
    for (query, why) in [("", "missing"), ("reference=org/app&since=x", "since"), ("reference=A", "")] {
        let (status, refused) = over_socket(&mirror, "GET", &format!("who?{query}"), &Value::Null).await;
        assert!(status == 400 && refused["error"]["message"].as_str().unwrap().contains(why), "{query}: {refused}");
    }
}
