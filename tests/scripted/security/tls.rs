//! Whom the mirror trusts, and as whom it appears.

use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn ca_line(secrets: &Secrets, ca: &TestCa) -> String {
    ca.write_pem(&secrets.path("ca.pem"));
    format!("ca = \"{}\"\n", secrets.path("ca.pem").display())
}

#[tokio::test]
async fn a_certificate_is_accepted_from_a_known_authority_only() {
    let (secrets, ca) = (Secrets::new(), TestCa::new());
    let upstream = Upstream::tls(&ca).await;
    publish_app(&upstream);
    let unknown = Mirror::of("docker.io", upstream.url()).await;
    let answer = unknown.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate"), "{}", answer.text());
    assert_eq!(upstream.requests().len(), 0);
    let other_name = Mirror::start(hub(upstream.url_as("127.0.0.2"), &ca_line(&secrets, &ca))).await;
    assert_eq!(other_name.client().get(APP).await.status, 502);
    let known = Mirror::start(hub(upstream.url(), &ca_line(&secrets, &ca))).await;
    assert_eq!(known.client().get(APP).await.status, 200);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_endpoint_and_to_nobody_else() {
    let (secrets, ca) = (Secrets::new(), TestCa::new());
    let own = Upstream::builder().tls(&ca).client_certificates(ClientCertificates::Required(&ca)).start().await;
    let wants =
        || Upstream::builder().tls(&ca).address("127.0.0.2").client_certificates(ClientCertificates::Wanted(&ca));
    let (network, tokens_at) = (wants().start().await, wants().start().await);
    let app = publish_app(&own);
    publish_app(&network);
    let auth = TokenAuth::new().realm(&format!("{}/token", tokens_at.url()));
    tokens_at.hand_out_tokens(&auth);
    own.require_tokens(&auth);
    own.script(blobs().always().redirect_to(&network));
    let identity = ca.client("mirror");
    let lines = format!(
        "{}client_certificate = \"{}\"\nclient_key = \"{}\"\ntoken_hosts = [\"127.0.0.2\"]\n",
        ca_line(&secrets, &ca),
        secrets.file("cert.pem", &identity.certificate),
        secrets.file("key.pem", &identity.key),
    );
    let mirror = Mirror::start(hub(own.url(), &lines)).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200);
    let shown = |upstream: &Upstream| upstream.requests().iter().any(|request| request.client_certificate);
    assert_eq!((shown(&own), shown(&network), shown(&tokens_at)), (true, false, false));
    assert!(!network.requests().is_empty() && !tokens_at.requests().is_empty());
}

#[tokio::test]
async fn skipped_verification_is_for_the_endpoint_and_not_for_where_it_redirects() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let upstream = Upstream::tls(&ca).await;
    let network = Upstream::builder().tls(&other).address("127.0.0.2").start().await;
    let app = publish_app(&upstream);
    publish_app(&network);
    let mirror = Mirror::start(hub(upstream.url(), "insecure_skip_verify = true")).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    upstream.script(blobs().always().redirect_to(&network));
    let answer = mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate"), "{}", answer.text());
    assert_eq!(network.requests().len(), 0);
}

#[tokio::test]
async fn an_https_upstream_is_never_asked_by_http() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let url = upstream.url().replace("http://", "https://");
    let mirror = Mirror::of("docker.io", url).await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn t54_a_self_signed_certificate_that_is_listed_is_trusted_for_its_own_name() {
    let secrets = Secrets::new();
    let (own, other) = (TestCa::self_signed("127.0.0.1"), TestCa::self_signed("127.0.0.1"));
    let upstream = Upstream::tls(&own).await;
    publish_app(&upstream);
    let listed = Mirror::start(hub(upstream.url(), &ca_line(&secrets, &own))).await;
    assert_eq!(listed.client().get(APP).await.status, 200);
    let elsewhere = upstream.url().replace("127.0.0.1", "localhost");
    let by_another_name = Mirror::start(hub(elsewhere, &ca_line(&secrets, &own))).await;
    assert_eq!(by_another_name.client().get(APP).await.status, 502, "its name is checked");
    let not_listed = Mirror::start(hub(upstream.url(), &ca_line(&secrets, &other))).await;
    assert_eq!(not_listed.client().get(APP).await.status, 502);
}
