//! Secrets never show: not in the log, not in metrics, not in an answer (docs/SECURITY-THREATS.md, T10, T11).

use std::fmt::Write as _;

use super::program::Program;
use crate::support::client::Client;
use crate::support::image::image;
use crate::support::upstream::*;

const MARK: &str = "s3cr3t-marker";

#[tokio::test]
async fn t11_secrets_are_in_no_log_line_no_metric_and_no_answer() {
    for format in ["text", "json"] {
        let (registry, cdn) = (Upstream::start().await, Upstream::start().await);
        let app = image(&[blob(200_000, 1)]);
        registry.publish("org/app", "1", &app);
        let auth = TokenAuth::new().user("robot", &format!("{MARK}-password")).login_required();
        registry.token_auth(&auth);
        let directory = tempfile::tempdir().unwrap();
        let password = directory.path().join("password");
        std::fs::write(&password, format!("{MARK}-password\n")).unwrap();
        let toml = format!(
            "[server]\nlog_level = \"debug\"\nlog_format = \"{format}\"\n[storage]\npath = \"data\"\n\
             [upstreams.\"docker.io\"]\nurl = \"{}\"\nusername = \"robot\"\npassword_file = \"{}\"\nbreaker_window = \"0s\"\nresponse_timeout = \"1s\"\n",
            registry.url(),
            password.display()
        );
        let program = Program::start(directory, Some(&toml), &[]).await;
        let client = program.client();
        let layer = app.layers()[0].digest.clone();
        let signed = format!("{}/blob?X-Amz-Signature={MARK}-signed", cdn.url());
        let mut bodies = String::new();
        let mut pull = async |cause: &str| {
            let basic = format!("Basic {MARK}-of-client");
            let headers = [("authorization", basic.as_str()), ("cookie", MARK), ("x-registry-auth", MARK)];
            for part in ["manifests/1".to_owned(), format!("blobs/{layer}"), "tags/list".to_owned()] {
                let path = format!("/v2/org/app/{part}?token={MARK}-query");
                if let Ok(answer) = client.try_send(http::Method::GET, &path, &headers).await {
                    writeln!(bodies, "{cause} {:?} {}", answer.headers, answer.text()).unwrap();
                }
            }
        };
        for (cause, step) in [
            ("broken signed redirect", blobs().always().redirect(&signed)),
            ("refused", every_request().always().status(403).body(Content::from(MARK))),
            ("down", every_request().always().status(500).header("x-debug", MARK)),
            ("cut", every_request().always().cut_before_headers()),
            ("nonsense", every_request().always().says(format!("HTTP/1.1 200 {MARK}\r\n{MARK}\r\n\r\n"))),
            ("hang", every_request().always().hang_before_headers()),
            ("downgrade", manifests().always().redirect(&format!("ftp://{MARK}:{MARK}@evil.test/"))),
        ] {
            let handle = registry.script(step);
            pull(cause).await;
            handle.revoke();
        }
        auth.expire_all();
        pull("well").await;
        assert!(auth.issued().iter().any(|token| !token.token.is_empty()), "there were tokens");
        std::fs::write(program.directory.path().join("password"), format!("{MARK}-wrong")).unwrap();
        auth.expire_all();
        pull("wrong password").await;
        let metrics = Client::new(program.admin).get("/metrics").await.text();
        program.signal("TERM");
        let (_, log, _) = program.ended().await;
        for token in auth.issued() {
            for (place, text) in [("log", &log), ("metrics", &metrics), ("bodies", &bodies)] {
                assert!(!text.contains(&token.token), "a token in {place}");
            }
        }
        for (place, text) in [("log", &log), ("metrics", &metrics), ("bodies", &bodies)] {
            let line = text.lines().find(|line| line.contains(MARK));
            assert!(line.is_none(), "{place}: {line:?}");
        }
        let encoded = base64_of(&format!("robot:{MARK}-password"));
        assert!(!log.contains(&encoded) && !bodies.contains(&encoded));
        // T10: what a client sent went nowhere.
        let leaked = |request: &Recorded| format!("{:?}", request.headers).contains(&format!("{MARK}-of-client"));
        assert!(!registry.requests().iter().chain(&cdn.requests()).any(leaked));
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
