//! A registry tells that a tag has moved (docs/SECURITY-THREATS.md, T160).

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, raw};
use crate::support::eventually;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TOKEN: &str = "hook-token";

struct Site {
    registry: Upstream,
    mirror: Mirror,
    _directory: tempfile::TempDir,
}

impl Site {
    /// Tags are believed for an hour.
    async fn start() -> Self {
        let (registry, directory) = (Upstream::start().await, tempfile::tempdir().unwrap());
        let file = directory.path().join("hook");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let upstream = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\ntag_ttl = \"1h\"\n", registry.url());
        let lines = format!("webhook_token_file = \"{}\"", file.display());
        let mirror = Mirror::builder(upstream).server(&lines).start().await;
        Self { registry, mirror, _directory: directory }
    }

    async fn tell(&self, query: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let headers = headers.iter().fold(String::new(), |text, (name, value)| format!("{text}{name}: {value}\r\n"));
        let head = format!("POST /webhook{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}");
        let answer = raw(self.mirror.admin, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    async fn pull(&self, tag: &str) -> (u16, bytes::Bytes) {
        let answer = self.mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await;
        (answer.status, answer.body)
    }
}

fn hub(tag: &str) -> String {
    json!({"push_data": {"tag": tag}, "repository": {"repo_name": "org/app"}}).to_string()
}

#[tokio::test]
async fn a_tag_that_has_moved_is_checked_at_its_next_pull_and_no_other_is() {
    let site = Site::start().await;
    let (old, new) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    for tag in ["1", "other"] {
        site.registry.publish("org/app", tag, &old);
        assert_eq!(site.pull(tag).await.0, 200);
    }
    site.registry.publish("org/app", "1", &new);
    site.registry.forget_requests();
    assert_eq!(site.pull("1").await.1, old.manifest, "it is fresh");
    let (status, told) = site.tell("", &[("authorization", "Bearer hook-token")], &hub("1")).await;
    let item = json!({"item": "docker.io/org/app:1", "outcome": "done", "problem": null});
    assert_eq!((status, &told["items"]), (200, &json!([item])));
    assert!(site.registry.requests().is_empty(), "nobody is asked before the next pull");
    assert_eq!(site.pull("1").await.1, new.manifest);
    assert_eq!(site.pull("1").await.1, new.manifest);
    let asked = site.registry.requests().len();
    assert_eq!(site.pull("other").await.1, old.manifest);
    assert_eq!(site.registry.requests().len(), asked, "the other tag is fresh");
    // In an outage, the copy is served, as after any check that fails.
    let (status, _) = site.tell("", &[("authorization", "Bearer hook-token")], &hub("1")).await;
    assert_eq!(status, 200);
    for blob in std::iter::once(new.config()).chain(new.layers()) {
        let path = format!("/v2/org/app/blobs/{}", blob.digest);
        let is_hit = async || site.mirror.client().get(&path).await.header("cache-status") == "roadstead; hit";
        eventually("the blob is stored", is_hit).await;
    }
    site.registry.stop().await;
    assert_eq!(site.pull("1").await, (200, new.manifest.clone()));
}

#[tokio::test]
async fn a_tag_that_was_missing_or_is_being_checked_is_checked_again() {
    let site = Site::start().await;
    let (old, new) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    assert_eq!(site.pull("late").await.0, 404);
    site.registry.publish("org/app", "late", &old);
    assert_eq!(site.pull("late").await.0, 404, "the answer is believed");
    let header = [("authorization", TOKEN)];
    assert_eq!(site.tell("", &header, &hub("late")).await.0, 200);
    assert_eq!(site.pull("late").await, (200, old.manifest.clone()));

    let old = image(&[blob(10, 3)]);
    site.registry.publish("org/app", "1", &old);
    let gate = Gate::closed();
    site.registry.script(manifests().get().once().stall_after(20, &gate));
    let client = site.mirror.client();
    let first = tokio::spawn(async move { client.get("/v2/org/app/manifests/1").await });
    gate.arrived().await;
    site.registry.publish("org/app", "1", &new);
    let (_, told) = site.tell("", &header, &hub("1")).await;
    assert_eq!(told["items"][0]["outcome"], "done");
    gate.open();
    assert_eq!(first.await.unwrap().body, old.manifest);
    eventually("the answer is not believed", async || site.pull("1").await.1 == new.manifest).await;
}

#[tokio::test]
async fn t160_nobody_tells_without_the_token_and_a_teller_can_do_no_more_than_have_tags_checked() {
    let site = Site::start().await;
    let body = hub("1");
    let right = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, TOKEN.as_bytes()), body.as_bytes());
    let signed = right.as_ref().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    for (query, header, status) in [
        ("", None, 401),
        ("?token=", None, 403),
        ("?token=hook-toke", None, 403),
        ("", Some(("authorization", "Bearer other")), 403),
        ("?token=hook-token", Some(("authorization", "Bearer other")), 403),
        ("", Some(("x-hub-signature-256", "sha256=00")), 403),
        ("?token=hook-token", Some(("x-hub-signature-256", "sha256=00")), 403),
        ("?token=hook-token", None, 200),
        ("", Some(("authorization", TOKEN)), 200),
        ("", Some(("x-hub-signature-256", signed.as_str())), 200),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        assert_eq!(site.tell(query, &headers, &body).await.0, status, "{query} {headers:?}");
    }
    let unknown = json!({"docker_url": "evil.test/org/app", "updated_tags": ["1"]}).to_string();
    let (status, told) = site.tell("?token=hook-token", &[], &unknown).await;
    assert_eq!((status, told["items"][0]["outcome"].as_str()), (200, Some("refused")));
    assert_eq!(site.tell("?token=hook-token&registry=docker.io", &[], &unknown).await.1["items"][0]["outcome"], "held");
    assert_eq!(site.tell("?token=hook-token", &[], &" ".repeat(256 * 1024 + 1)).await.0, 413);
    assert_eq!(site.tell("?token=hook-token", &[], "{\"a\":1}").await.0, 400);
    assert!(site.registry.requests().is_empty(), "no registry is asked");
    let admin = Client::new(site.mirror.admin);
    assert_eq!(admin.send(Method::GET, "/webhook?token=hook-token", &[]).await.status, 405);
    let closed = Mirror::start("[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n").await;
    assert_eq!(Client::new(closed.admin).send(Method::GET, "/webhook", &[]).await.status, 404);
}
