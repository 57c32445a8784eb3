//! T1: a name that a client chose is a key, not an address; under a wildcard it leads to public addresses only.

use super::egress::Egress;
use super::{hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Names that are, or lead to, this machine.
fn private_names(port: u16) -> Vec<String> {
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "app.localhost",
        "printer.local",
        "db.internal",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
    ];
    hosts.iter().flat_map(|host| [(*host).to_owned(), format!("{host}:{port}")]).collect()
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn t1_no_name_in_a_request_is_dialled_in_a_closed_world() {
    let (upstream, canary) = (Upstream::start().await, Canary::listen());
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let address = canary.address().to_string();
    let port = canary.address().port();
    let mut names = private_names(port);
    names.extend([
        address.clone(),
        format!("user:password@{address}"),
        format!("docker.io@{address}"),
        format!("{address}#docker.io"),
        format!("{address}/docker.io"),
        format!("http://{address}"),
        format!("docker.io\r\nHost: {address}"),
        format!("docker.io\0{address}"),
        "docker.io.".to_owned(),
        "docker.io:0".to_owned(),
        "docker.io:99999".to_owned(),
        "d\u{43e}cker.io".to_owned(),
        String::new(),
        " ".to_owned(),
        "*".to_owned(),
        "..".to_owned(),
    ]);
    for name in names {
        for query in
            [format!("ns={}", encoded(&name)), format!("oci-ref-name={}", encoded(&format!("{name}/library/app:v1")))]
        {
            let answer = mirror.client().get(&format!("/v2/library/app/manifests/v1?{query}")).await;
            assert!(matches!(answer.status, 400 | 404), "{name:?}: {}", answer.status);
            assert_eq!(answer.header("oci-namespace"), "", "{name:?} is not echoed");
        }
    }
    assert_eq!(upstream.requests().len(), 0);
    canary.assert_untouched();
}

#[tokio::test]
async fn t1_a_wildcard_admits_no_private_address() {
    let canary = Canary::listen();
    let mirror = Mirror::start("[upstreams.\"*\"]\nconnect_timeout = \"1s\"\n").await;
    for name in private_names(canary.address().port()) {
        let answer = mirror.client().get(&format!("/v2/library/app/manifests/v1?ns={}", encoded(&name))).await;
        assert!(matches!(answer.status, 400 | 404), "{name}: {} {}", answer.status, answer.text());
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn t1_what_a_wildcard_admits_is_asked_by_https_and_cannot_redirect_home() {
    let (ca, canary, egress) = (TestCa::new(), Canary::listen(), Egress::start().await);
    let directory = tempfile::tempdir().unwrap();
    ca.write_pem(&directory.path().join("ca.pem"));
    let upstream = Upstream::builder().tls(&ca).name("registry.example").start().await;
    publish_app(&upstream);
    egress.route("registry.example:443", upstream.address());
    let toml = format!(
        "[upstreams.\"*\"]\nproxy = \"http://{}\"\nca = \"{}\"\n",
        egress.address,
        directory.path().join("ca.pem").display()
    );
    let mirror = Mirror::start(toml).await;
    let path = "/v2/library/app/manifests/v1?ns=registry.example";
    let answer = mirror.client().get(path).await;
    assert_eq!((answer.status, answer.header("oci-namespace")), (200, "registry.example"));
    assert!(egress.seen().iter().all(|seen| seen.how == "CONNECT"));
    let location = format!("https://{}/x", canary.address());
    upstream.script(blobs().always().redirect(&location));
    let digest = sha256(b"");
    let answer = mirror.client().get(&format!("/v2/library/app/blobs/{digest}?ns=registry.example")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("private address"), "{}", answer.text());
    assert!(egress.seen().iter().all(|seen| seen.target == "registry.example:443"));
    canary.assert_untouched();
}

#[tokio::test]
async fn t1_a_wildcard_over_everything_takes_no_password() {
    let secrets = super::secrets::Secrets::new();
    let toml = format!("[upstreams.\"*\"]\n{}", secrets.login("robot", "x"));
    let problems = roadstead::config::Config::read(Some(&toml), Vec::new()).err().unwrap().to_string();
    assert!(problems.contains("any registry that a request names"), "{problems}");
    let narrower = toml.replace("\"*\"", "\"*.example.com\"");
    assert!(roadstead::config::Config::read(Some(&narrower), Vec::new()).is_ok());
}

#[tokio::test]
async fn t15_a_pull_of_what_is_not_there_makes_nothing() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::start(hub(upstream.url(), "negative_ttl = \"0s\"")).await;
    for _ in 0..2 {
        assert_eq!(mirror.client().get("/v2/attacker/new/manifests/v1").await.status, 404);
        assert_eq!(mirror.client().get("/v2/attacker/new/tags/list").await.status, 404);
    }
    let writes = upstream.requests().into_iter().filter(|request| !matches!(request.method.as_str(), "GET" | "HEAD"));
    assert_eq!(writes.count(), 0, "nothing is made upstream");
    let scopes: Vec<_> = upstream.requests().into_iter().map(|request| request.query).collect();
    assert!(scopes.iter().all(|query| !query.contains("push")));
    // Somebody makes that repository later: what was asked before gave no right to it.
    let digest = upstream.blob("attacker/new", blob(10, 1));
    upstream.script(blobs().always().status(403));
    assert_eq!(mirror.client().get(&format!("/v2/attacker/new/blobs/{digest}")).await.status, 403);
}
