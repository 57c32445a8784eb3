//! Upstreams behind an egress proxy.

use super::egress::{Egress, Seen};
use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::image::Blob;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn seen(how: &str, target: &str, login: Option<&str>) -> Seen {
    Seen { how: how.to_owned(), target: target.to_owned(), login: login.map(str::to_owned) }
}

/// Whatever was asked of the proxy, each once.
fn distinct(egress: &Egress) -> Vec<Seen> {
    let mut seen = egress.seen();
    seen.sort_by(|a, b| (&a.how, &a.target).cmp(&(&b.how, &b.target)));
    seen.dedup();
    seen
}

async fn pulls(mirror: &Mirror, layers: &[Blob]) {
    assert_eq!(mirror.client().get(APP).await.status, 200);
    for layer in layers {
        assert_eq!(mirror.client().get(&blob_path("library/app", &layer.digest)).await.status, 200);
    }
}

#[tokio::test]
async fn an_http_upstream_is_asked_through_a_proxy() {
    let (upstream, egress) = (Upstream::start().await, Egress::start().await);
    let app = publish_app(&upstream);
    upstream.token_auth(&TokenAuth::new());
    egress.route("registry.test:80", upstream.address());
    let lines = format!("proxy = \"http://{}\"", egress.address);
    let mirror = Mirror::start(hub("http://registry.test", &lines)).await;
    pulls(&mirror, app.layers()).await;
    let asked = egress.seen();
    assert!(asked.iter().all(|seen| seen.target == "registry.test:80" && seen.login.is_none()), "{asked:?}");
    assert!(upstream.requests().iter().all(|request| request.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn an_https_upstream_is_asked_through_a_tunnel_with_the_proxys_login() {
    let (secrets, ca, egress) = (Secrets::new(), TestCa::new(), Egress::start().await);
    let upstream = Upstream::builder().tls(&ca).name("registry.test").start().await;
    let app = publish_app(&upstream);
    egress.route("registry.test:443", upstream.address());
    ca.write_pem(&secrets.path("ca.pem"));
    let lines = format!(
        "ca = \"{}\"\nproxy = \"http://{}\"\nproxy_username = \"me\"\nproxy_password_file = \"{}\"",
        secrets.path("ca.pem").display(),
        egress.address,
        secrets.file("proxy", "pass\n"),
    );
    let mirror = Mirror::start(hub("https://registry.test", &lines)).await;
    pulls(&mirror, app.layers()).await;
    assert_eq!(distinct(&egress), [seen("CONNECT", "registry.test:443", Some("Basic bWU6cGFzcw=="))]);
    assert!(upstream.requests().iter().all(|request| request.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn an_upstream_is_asked_through_socks_with_the_proxys_login() {
    let (secrets, upstream, egress) =
        (Secrets::new(), Upstream::start().await, Egress::with_login(Some("me:pass")).await);
    let app = publish_app(&upstream);
    egress.route("registry.test:80", upstream.address());
    let lines = format!(
        "proxy = \"socks5h://{}\"\nproxy_username = \"me\"\nproxy_password_file = \"{}\"",
        egress.address,
        secrets.file("proxy", "pass\n"),
    );
    let mirror = Mirror::start(hub("http://registry.test", &lines)).await;
    pulls(&mirror, app.layers()).await;
    assert_eq!(distinct(&egress), [seen("SOCKS5", "registry.test:80", Some("me:pass"))], "the proxy resolves the name");
}

#[tokio::test]
async fn redirects_and_tokens_go_through_the_proxy_too() {
    let (upstream, egress) = (Upstream::start().await, Egress::start().await);
    let app = publish_app(&upstream);
    let auth = TokenAuth::new().realm("http://auth.test/token");
    upstream.token_auth(&auth);
    for host in ["registry.test:80", "auth.test:80", "network.test:80"] {
        egress.route(host, upstream.address());
    }
    upstream.file("/signed", blob(100_000, 1));
    upstream.script(blobs().always().redirect("http://network.test/signed"));
    let lines = format!("token_hosts = [\"auth.test\"]\nproxy = \"http://{}\"", egress.address);
    let mirror = Mirror::start(hub("http://registry.test", &lines)).await;
    pulls(&mirror, app.layers()).await;
    for host in ["registry.test:80", "auth.test:80", "network.test:80"] {
        assert!(egress.seen().iter().any(|seen| seen.target == host), "{host}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_named_is_reached_at_its_private_address_for_redirects_too() {
    let (upstream, egress) = (Upstream::start().await, Egress::start().await);
    let digest = upstream.blob("org/app", blob(1000, 1));
    egress.route("registry.test:80", upstream.address());
    egress.route("network.test:80", upstream.address());
    upstream.file("/signed", blob(1000, 1));
    upstream.script(blobs().always().redirect("http://network.test/signed"));
    let lines = format!("proxy = \"http://localhost:{}\"", egress.address.port());
    let mirror = Mirror::start(hub("http://registry.test", &lines)).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_proxy_that_is_down_is_an_upstream_that_is_down() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let gone = Canary::listen().url();
    let mirror = Mirror::start(hub(upstream.url(), &format!("proxy = \"{gone}\""))).await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    assert_eq!(upstream.connections(), 0, "never past the proxy");
}

#[tokio::test]
async fn an_upstream_is_taken_out_of_the_proxy_of_the_defaults() {
    let (upstream, egress) = (Upstream::start().await, Egress::start().await);
    publish_app(&upstream);
    let defaults = format!("[defaults]\nproxy = \"http://{}\"\n", egress.address);
    let mirror = Mirror::start(defaults + &hub(upstream.url(), "proxy = \"none\"")).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert!(egress.seen().is_empty());
}
