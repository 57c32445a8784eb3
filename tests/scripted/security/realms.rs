//! T2: credentials go where the operator lets them, whatever realm an upstream names.

use super::secrets::Secrets;
use super::{APP, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t2_a_realm_on_another_host_gets_nothing_unless_it_is_listed() {
    let secrets = Secrets::new();
    let (upstream, other) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    publish_app(&upstream);
    let auth = TokenAuth::new().user("robot", "right").login_required().realm(&format!("{}/token", other.url()));
    other.hand_out_tokens(&auth);
    upstream.require_tokens(&auth);
    let toml = hub(upstream.url(), &secrets.login("robot", "right"));
    let mirror = Mirror::start(toml.clone()).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("token_hosts"), "the message names the key: {}", answer.text());
    assert_eq!(other.connections(), 0);
    for listed in ["127.0.0.2".to_owned(), other.host()] {
        let mirror = Mirror::start(format!("{toml}token_hosts = [\"{listed}\"]\n")).await;
        assert_eq!(mirror.client().get(APP).await.status, 200, "{listed}");
    }
    assert_eq!(auth.issued()[0].user.as_deref(), Some("robot"));
}

#[tokio::test]
async fn t2_an_http_realm_of_an_https_endpoint_gets_nothing_listed_or_not() {
    let (secrets, ca, canary) = (Secrets::new(), TestCa::new(), Canary::listen());
    let upstream = Upstream::tls(&ca).await;
    publish_app(&upstream);
    upstream.require_tokens(&TokenAuth::new().user("robot", "right").realm(&format!("{}/token", canary.url())));
    ca.write_pem(&secrets.path("ca.pem"));
    let lines = format!(
        "ca = \"{}\"\ntoken_hosts = [\"127.0.0.1\"]\n{}",
        secrets.path("ca.pem").display(),
        secrets.login("robot", "right")
    );
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("not reached by https"), "{}", answer.text());
    canary.assert_untouched();
}

#[tokio::test]
async fn t2_a_realm_that_redirects_leads_nowhere() {
    let (secrets, canary) = (Secrets::new(), Canary::listen());
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    upstream.token_auth(&TokenAuth::new().user("robot", "right"));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/token", canary.url());
        let step = upstream.script(tokens().always().status(status).header("location", &location));
        let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
        assert_eq!(mirror.client().get(APP).await.status, 502, "{status}");
        assert!(step.used() > 0);
        step.revoke();
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn t2_a_link_local_realm_gets_nothing_even_if_it_is_listed() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    upstream.require_tokens(&TokenAuth::new().user("robot", "right").realm("http://169.254.169.254/token"));
    let lines = format!(
        "token_hosts = [\"169.254.169.254\"]\nprivate_hosts = [\"169.254.169.254\"]\n{}",
        secrets.login("robot", "right")
    );
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("169.254.169.254 is a private address"), "{}", answer.text());
}

#[tokio::test]
async fn t2_odd_realms_are_refused() {
    let (secrets, canary) = (Secrets::new(), Canary::listen());
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let host = upstream.host();
    let port = canary.address().port();
    let realms = [
        "/token".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("http://user:password@{host}/token"),
        format!("http://127.0.0.1@127.0.0.2:{port}/token"),
        format!("ftp://{host}/token"),
        format!("http://localhost:{port}/token"),
        format!("http://[::ffff:127.0.0.1]:{port}/token"),
    ];
    for realm in realms {
        upstream.require_tokens(&TokenAuth::new().user("robot", "right").realm(&realm));
        let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
        assert_eq!(mirror.client().get(APP).await.status, 502, "{realm}");
    }
    assert!(upstream.requests().iter().all(|request| request.header("authorization").is_none()));
    canary.assert_untouched();
}

#[tokio::test]
async fn t2_a_realm_that_was_refused_once_does_not_stay_in_the_way() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    upstream.token_auth(&TokenAuth::new());
    let evil = "Bearer realm=\"https://evil.test/token\"";
    upstream.script(manifests().unauthorized_too().once().status(401).header("www-authenticate", evil));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

/// The token service itself is at `to`; `/token` of `upstream` redirects there.
fn redirects_tokens(upstream: &Upstream, status: u16, to: &str) {
    let realm = format!("{}/token", upstream.url());
    upstream.require_tokens(&TokenAuth::new().realm(&realm));
    let location = format!("{to}?service=registry.test&scope=repository%3Alibrary%2Fapp%3Apull");
    upstream.script(every_request().when(|r| r.path == "/token").always().status(status).header("location", &location));
}

#[tokio::test]
async fn t42_a_token_servers_redirect_within_its_own_origin_is_followed_with_the_credentials() {
    let secrets = Secrets::new();
    for status in [301, 302, 303, 307, 308] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        let auth = TokenAuth::new().user("robot", "right").login_required().path("/moved");
        redirects_tokens(&upstream, status, "/moved");
        upstream.token_auth(&auth.clone().realm(&format!("{}/token", upstream.url())));
        let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, 200, "{status}: {}", answer.text());
        assert_eq!(auth.issued()[0].user.as_deref(), Some("robot"), "{status}");
    }
}

#[tokio::test]
async fn t42_a_token_servers_redirect_to_another_host_is_followed_if_it_is_listed() {
    let secrets = Secrets::new();
    let (upstream, other) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    publish_app(&upstream);
    let auth = TokenAuth::new().user("robot", "right").login_required();
    other.hand_out_tokens(&auth);
    redirects_tokens(&upstream, 307, &format!("{}/token", other.url()));
    upstream.require_tokens(&auth.clone().realm(&format!("{}/token", upstream.url())));
    let toml = hub(upstream.url(), &secrets.login("robot", "right"));
    let mirror = Mirror::start(toml.clone()).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("redirects to 127.0.0.2; add it to `token_hosts`"), "{}", answer.text());
    assert_eq!(other.connections(), 0);
    for listed in ["127.0.0.2".to_owned(), other.host()] {
        let mirror = Mirror::start(format!("{toml}token_hosts = [\"{listed}\"]\n")).await;
        assert_eq!(mirror.client().get(APP).await.status, 200, "{listed}");
    }
    assert!(auth.issued().iter().all(|token| token.user.as_deref() == Some("robot")));
}

#[tokio::test]
async fn t42_a_token_server_that_redirects_without_end_is_left() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    redirects_tokens(&upstream, 302, "/token");
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("redirects more than 5 times"), "{}", answer.text());
    assert_eq!(upstream.requests_of(&tokens()).len(), 6);
}

#[tokio::test]
async fn t42_a_token_servers_redirect_leads_from_https_to_https_only() {
    let (secrets, ca, canary) = (Secrets::new(), TestCa::new(), Canary::listen());
    let upstream = Upstream::tls(&ca).await;
    publish_app(&upstream);
    redirects_tokens(&upstream, 307, &format!("{}/token", canary.url()));
    ca.write_pem(&secrets.path("ca.pem"));
    let lines = format!(
        "ca = \"{}\"\ntoken_hosts = [\"127.0.0.1\"]\n{}",
        secrets.path("ca.pem").display(),
        secrets.login("robot", "right")
    );
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("a redirect from https to http"), "{}", answer.text());
    canary.assert_untouched();
}

/// An identity token goes by POST, and a 302 would make a GET of it.
#[tokio::test]
async fn t42_an_identity_token_is_posted_again_where_the_redirect_says_so() {
    let secrets = Secrets::new();
    let helper = secrets.helper("docker-credential-acr", "echo '{\"Username\":\"<token>\",\"Secret\":\"identity\"}'");
    for (status, expected) in [(307, 200), (308, 200), (302, 502), (303, 502)] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        redirects_tokens(&upstream, status, "/moved");
        let realm = format!("{}/token", upstream.url());
        upstream.token_auth(&TokenAuth::new().accepts_post().path("/moved").realm(&realm));
        let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{helper}\"\n"))).await;
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, expected, "{status}: {}", answer.text());
    }
}
