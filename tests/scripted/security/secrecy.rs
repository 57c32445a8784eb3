//! T11: no secret is seen in logs, metrics or bodies, whatever fails.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;

use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::client::Client;
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Everything that the mirror said; each of these tests looks at it.
struct Watch {
    log: Log,
    said: String,
}

impl Watch {
    fn begin() -> Self {
        Self { log: Log::begin(), said: String::new() }
    }

    async fn get(&mut self, mirror: &Mirror, path: &str) -> u16 {
        let headers = [("authorization", "Bearer MARKER-client")];
        match mirror.client().try_send(Method::GET, path, &headers).await {
            Ok(answer) => {
                writeln!(self.said, "{:?}\n{}", answer.headers, answer.text()).unwrap();
                answer.status
            }
            Err(cut) => {
                self.said.push_str(&cut.to_string());
                0
            }
        }
    }

    async fn end(self, mirror: Mirror) {
        let metrics = Client::new(mirror.admin).get("/metrics").await.text();
        mirror.stop().await;
        let log = self.log.text();
        assert!(log.contains("\"request\""), "the log was captured");
        for (name, text) in [("log", &log), ("metrics", &metrics), ("answers", &self.said)] {
            for secret in ["MARKER", "token-1-of", "TUFSS0VS"] {
                let found = text.find(secret).map(|at| &text[at.saturating_sub(200)..]);
                assert!(found.is_none(), "a secret is in the {name}: {}", found.unwrap_or_default());
            }
        }
    }
}

/// The password's beginning in base64 is `TUFSS0VS`, for a name of no length modulo three.
fn login(secrets: &Secrets) -> String {
    secrets.login("ro", "MARKER-password")
}

#[tokio::test]
async fn t11_no_secret_is_told_when_signing_in_fails() {
    let secrets = Secrets::new();
    let mut watch = Watch::begin();
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let auth = TokenAuth::new().user("ro", "MARKER-password").login_required();
    upstream.token_auth(&auth);
    let mirror = Mirror::start(hub(upstream.url(), &login(&secrets))).await;
    let echo = r#"{"errors":[{"message":"MARKER-password is wrong"}],"token":"MARKER"}"#;
    let garbage = r#"{"token":"MARKER-token" MARKER"#;
    for step in [
        tokens().times(2).status(500).body(echo),
        tokens().once().body(garbage),
        tokens().times(2).cut_after(3),
        tokens().once().too_many_requests("1"),
        tokens().once().status(302).header("location", "http://evil.test/?MARKER"),
        tokens().once().status(403).body(echo),
    ] {
        upstream.script(step);
        assert!(watch.get(&mirror, APP).await >= 400);
        mirror.advance(Duration::from_secs(61));
    }
    assert_eq!(watch.get(&mirror, APP).await, 200);
    assert_eq!(auth.issued()[0].token, "token-1-of-registry.test");
    auth.password("ro", "another");
    mirror.advance(Duration::from_mins(10));
    assert_eq!(watch.get(&mirror, "/v2/library/app/manifests/v2").await, 403);
    watch.end(mirror).await;
}

#[tokio::test]
async fn t11_no_secret_is_told_when_a_signed_url_fails() {
    let secrets = Secrets::new();
    let mut watch = Watch::begin();
    let (upstream, network) = (Upstream::start().await, Upstream::start().await);
    upstream.basic_auth(BasicAuth::new().user("ro", "MARKER-password"));
    let lines =
        format!("{}negative_ttl = \"0s\"\nbreaker_window = \"1s\"\nidle_timeout = \"300ms\"\n", login(&secrets));
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    let signed = format!("{}/signed?X-Amz-Signature=MARKER-signature", network.url());
    let gone = format!("{}/signed?sig=MARKER-signature", Canary::listen().url());
    let nowhere = "http://169.254.169.254/?sig=MARKER-signature".to_owned();
    let named = "http://ro:MARKER-in-url@127.0.0.1:1/?sig=MARKER".to_owned();
    let odd = "MARKER-scheme://x?sig=MARKER".to_lowercase().replace("marker-scheme", "odd-scheme").to_uppercase();
    let content = blob(200_000, 1);
    network.file("/signed", &content);
    let steps = [
        (signed.clone(), files().once().status(403).body("<Error><Signature>MARKER</Signature></Error>")),
        (signed.clone(), files().once().status(500).body("MARKER")),
        (signed.clone(), files().once().wrong_byte_at(3)),
        (signed.clone(), files().once().cut_before_headers()),
        (signed.clone(), files().once().says("MARKER nonsense\r\n\r\n")),
        (signed, files().once().gzip().header("content-encoding", "gzip")),
    ];
    for (n, (location, step)) in steps.into_iter().enumerate() {
        // None of them can be right: each gets as far as its proof at most.
        let digest = sha256(format!("{n}").as_bytes());
        upstream.blob_as("org/app", &digest, content.clone());
        let redirect = upstream.script(blobs().always().redirect(&location));
        let scripted = network.script(step);
        watch.get(&mirror, &blob_path("org/app", &digest)).await;
        assert_eq!(scripted.used(), 1, "{n}");
        redirect.revoke();
        mirror.advance(Duration::from_secs(61));
    }
    for location in [gone, nowhere, named, odd] {
        let redirect = upstream.script(blobs().always().redirect(&location));
        let status = watch.get(&mirror, &blob_path("org/app", &sha256(b"missing"))).await;
        assert_eq!(status, 502, "{location}");
        redirect.revoke();
        mirror.advance(Duration::from_secs(61));
    }
    watch.end(mirror).await;
}

#[tokio::test]
async fn t11_no_secret_is_told_when_a_proxy_or_a_helper_fails() {
    let secrets = Secrets::new();
    let mut watch = Watch::begin();
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let config = secrets.file("config.json", "{\"auths\": {\"docker.io\": {\"auth\": \"MARKER\" MARKER");
    let with_config = Mirror::start(hub(upstream.url(), &format!("docker_config = \"{config}\"\n"))).await;
    upstream.token_auth(&TokenAuth::new());
    assert_eq!(watch.get(&with_config, APP).await, 502);
    watch.end(with_config).await;
    let mut watch = Watch::begin();
    let lines = format!(
        "proxy = \"http://{}\"\nproxy_username = \"ro\"\nproxy_password_file = \"{}\"\n",
        upstream.host(),
        secrets.file("proxy", "MARKER-password"),
    );
    // The upstream is no proxy and refuses the tunnel.
    let with_proxy = Mirror::start(hub("https://registry.test", &lines)).await;
    assert_eq!(watch.get(&with_proxy, APP).await, 502);
    watch.end(with_proxy).await;
}

#[test]
fn t11_a_secret_in_the_wrong_place_of_the_configuration_is_not_repeated() {
    for toml in [
        "[upstreams.\"docker.io\"]\npassword = \"MARKER\"",
        "[upstreams.\"docker.io\"]\nurl = \"https://ro:MARKER@registry.test\"",
        "[upstreams.\"docker.io\"]\nurl = \"MARKER\"",
        "[upstreams.\"docker.io\"]\nproxy = \"http://ro:MARKER@proxy.test\"",
        "[upstreams.\"docker.io\"]\ntag_ttl = \"MARKER\"",
        "[upstreams.\"docker.io\"]\ntoken_hosts = { MARKER = 1 }",
        "[upstreams.\"docker.io\"]\npublic = \"MARKER\"",
        "[server]\nlisten = \"MARKER\"",
        "[storage]\nmax_size = \"MARKER\"",
        "[server]\nlisten = \"MARKER",
        "[server]\nadmin_token = MARKER",
        "[upstreams.\"docker.io\"]\nusername = \"ro\"\npassword_file = \"MARKER\"",
        "[upstreams.\"docker.io\"]\ndocker_config = \"MARKER\"",
        "[upstreams.\"docker.io\"]\nca = \"MARKER\"",
        "[upstreams.\"docker.io\"]\nclient_certificate = \"MARKER\"\nclient_key = \"MARKER\"",
        "[upstreams.\"docker.io\"]\nproxy = \"http://p\"\nproxy_username = \"ro\"\nproxy_password_file = \"MARKER\"",
        "[server]\nadmin_token_file = \"MARKER\"",
        "[server]\ntls = { certificate = \"MARKER\", key = \"MARKER\" }",
    ] {
        let problems = roadstead::config::Config::read(Some(toml), Vec::new()).err().unwrap().to_string();
        assert!(!problems.contains("MARKER"), "{toml}: {problems}");
    }
}
