//! T2, T4 for an endpoint at a public address: what it names must be public too. A proxy of the test's stands for the
//! internet.

use super::egress::Egress;
use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// `http://93.184.216.34` leads to `upstream`, and so do these.
async fn internet(upstream: &Upstream, others: &[&str]) -> (Egress, String) {
    let egress = Egress::start().await;
    for host in others.iter().chain(&["93.184.216.34:80"]) {
        egress.route(host, upstream.address());
    }
    let line = format!("proxy = \"http://{}\"\n", egress.address);
    (egress, line)
}

#[tokio::test]
async fn t4_a_public_endpoint_does_not_redirect_to_private_addresses_unless_they_are_listed() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("org/app", blob(1000, 1));
    upstream.file("/signed", blob(1000, 1));
    let path = blob_path("org/app", &digest);
    for private in ["10.0.0.1", "127.0.0.1", "192.168.1.1", "100.64.0.1", "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]"] {
        let target = format!("{private}:80");
        let (egress, proxy) = internet(&upstream, &[&target]).await;
        let step = upstream.script(blobs().always().redirect(&format!("http://{private}/signed")));
        let mirror = Mirror::start(hub("http://93.184.216.34", &proxy)).await;
        let answer = mirror.client().get(&path).await;
        assert_eq!(answer.status, 502, "{private}");
        assert!(answer.text().contains("private_hosts"), "the message names the key: {}", answer.text());
        assert!(egress.seen().iter().all(|seen| seen.target == "93.184.216.34:80"), "{:?}", egress.seen());
        step.revoke();
    }
    let (_egress, proxy) = internet(&upstream, &["10.0.0.1:80", "8.8.8.8:80"]).await;
    for (target, lines) in [("10.0.0.1", "private_hosts = [\"10.0.0.1\"]\n"), ("8.8.8.8", "")] {
        let step = upstream.script(blobs().always().redirect(&format!("http://{target}/signed")));
        let mirror = Mirror::start(hub("http://93.184.216.34", &format!("{proxy}{lines}"))).await;
        assert_eq!(mirror.client().get(&path).await.status, 200, "{target}");
        step.revoke();
    }
}

#[tokio::test]
async fn t2_a_public_endpoint_does_not_send_credentials_to_a_private_realm_unless_it_is_listed_as_such() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let auth = TokenAuth::new().user("robot", "right").login_required().realm("http://10.0.0.1/token");
    upstream.token_auth(&auth);
    let (egress, proxy) = internet(&upstream, &["10.0.0.1:80"]).await;
    let lines = format!("{proxy}token_hosts = [\"10.0.0.1\"]\n{}", secrets.login("robot", "right"));
    let mirror = Mirror::start(hub("http://93.184.216.34", &lines)).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("10.0.0.1 is a private address"), "{}", answer.text());
    assert!(egress.seen().iter().all(|seen| seen.target == "93.184.216.34:80"));
    let mirror = Mirror::start(hub("http://93.184.216.34", &format!("{lines}private_hosts = [\"10.0.0.1\"]\n"))).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
}
