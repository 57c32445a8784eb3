//! Registries that hide what they have from those who are not signed in, and say how to sign in at `/v2/` only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use std::time::Duration;

use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// `/v2/` answers with `ping` and this challenge, everything else with `status` and no challenge, until one has signed in.
fn hide(upstream: &Upstream, ping: u16, challenge: &str, status: u16) {
    let basic = format!("Basic {}", STANDARD.encode("robot:right"));
    let is_stranger = move |request: &Recorded| match request.header("authorization") {
        Some(given) => given != basic && !given.starts_with("Bearer token-"),
        None => true,
    };
    let at_ping = pings().when(is_stranger.clone()).always().status(ping);
    upstream.script(at_ping.header("www-authenticate", challenge));
    let is_hidden = move |request: &Recorded| request.repository.is_some() && is_stranger(request);
    upstream.script(every_request().when(is_hidden).always().status(status));
}

#[tokio::test]
async fn credentials_are_sent_where_a_resource_is_hidden_from_strangers() {
    for status in [401, 403, 404] {
        for (ping, scheme) in [(401, "Bearer"), (401, "Basic"), (200, "Bearer"), (200, "Basic")] {
            let secrets = Secrets::new();
            let upstream = Upstream::start().await;
            let app = publish_app(&upstream);
            upstream.hand_out_tokens(&TokenAuth::new().user("robot", "right").login_required());
            let challenge = format!("{scheme} realm=\"{}/token\",service=\"registry.test\"", upstream.url());
            hide(&upstream, ping, &challenge, status);
            let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
            let case = format!("{status} {ping} {scheme}");
            let answer = mirror.client().get(APP).await;
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let layer = blob_path("library/app", &app.layers()[0].digest);
            assert_eq!(mirror.client().get(&layer).await.status, 200, "{case}");
            assert_eq!(upstream.requests_of(&pings()).len(), 1, "{case}");
            assert_eq!(mirror.client().get("/v2/library/app/manifests/none").await.status, 404, "{case}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_costs_one_question_more_and_not_one_each_time() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
    for tag in 0..20 {
        assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await.status, 404);
    }
    assert_eq!((upstream.requests_of(&pings()).len(), upstream.requests().len()), (1, 21));
    mirror.advance(Duration::from_mins(1));
    assert_eq!(mirror.client().get("/v2/org/app/manifests/later").await.status, 404);
    assert_eq!(upstream.requests_of(&pings()).len(), 2);
}

#[tokio::test]
async fn nobody_asks_how_to_sign_in_without_credentials() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 404);
    assert_eq!(upstream.requests().len(), 1);
}
