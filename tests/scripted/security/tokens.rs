//! The Bearer dance as registries dance it.

use std::time::Duration;

use http::Method;

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn one_token_for_our_own_scope_serves_a_whole_pull() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let auth = TokenAuth::new().placeholder_scope_on_ping();
    upstream.token_auth(&auth);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    for layer in app.layers() {
        assert_eq!(mirror.client().get(&blob_path("library/app", &layer.digest)).await.status, 200);
    }
    let asked = upstream.requests_of(&tokens());
    assert_eq!(asked.len(), 1, "the token is used again");
    assert_eq!(asked[0].method, Method::GET);
    assert_eq!(asked[0].query, "service=registry.test&scope=repository%3Alibrary%2Fapp%3Apull");
    assert_eq!(asked[0].header("authorization"), None, "anonymous");
    let refused = upstream.requests().iter().filter(|request| request.status() == Some(401)).count();
    assert_eq!(refused, 1, "the challenge is remembered");
}

#[tokio::test]
async fn each_repository_has_a_token_of_its_own() {
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new();
    upstream.token_auth(&auth);
    let digest = upstream.blob("a/one", blob(10, 1));
    upstream.blob("b/two", blob(10, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for repository in ["a/one", "b/two"] {
        assert_eq!(mirror.client().get(&blob_path(repository, &digest)).await.status, 200);
    }
    let granted: Vec<_> = auth.issued().into_iter().map(|token| token.repositories).collect();
    assert_eq!(granted, [["a/one"], ["b/two"]]);
}

#[tokio::test]
async fn a_token_is_renewed_once_for_all_who_find_it_expired() {
    const CLIENTS: usize = 20;
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new();
    upstream.token_auth(&auth);
    let digest = upstream.blob("a/one", blob(10, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let (client, path) = (mirror.client(), blob_path("a/one", &digest));
    assert_eq!(client.head(&path).await.status, 200);
    auth.expire_all();
    let gate = Gate::closed();
    upstream.script(blobs().head().unauthorized_too().times(CLIENTS).stall_before_headers(&gate));
    let heads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, path) = (client.clone(), path.clone());
            tokio::spawn(async move { client.head(&path).await.status })
        })
        .collect();
    gate.arrived_times(CLIENTS).await;
    gate.open();
    for head in heads {
        assert_eq!(head.await.unwrap(), 200);
    }
    assert_eq!(auth.issued().len(), 2, "the first token, and one renewal");
}

#[tokio::test]
async fn a_late_refusal_of_an_old_token_does_not_cost_the_new_one() {
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new();
    upstream.token_auth(&auth);
    let digest = upstream.blob("a/one", blob(10, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let (client, path) = (mirror.client(), blob_path("a/one", &digest));
    assert_eq!(client.head(&path).await.status, 200);
    auth.expire_all();
    let gate = Gate::closed();
    upstream.script(blobs().head().unauthorized_too().once().stall_before_headers(&gate));
    let late = tokio::spawn({
        let (client, path) = (client.clone(), path.clone());
        async move { client.head(&path).await.status }
    });
    gate.arrived().await;
    assert_eq!(client.head(&path).await.status, 200);
    gate.open();
    assert_eq!(late.await.unwrap(), 200);
    assert_eq!(auth.issued().len(), 2);
}

#[tokio::test]
async fn a_token_is_used_for_most_of_its_life_and_renewed_before_its_end() {
    for (auth, good, over) in
        [(TokenAuth::new().expires_in(300), 230, 280), (TokenAuth::new().without_expires_in(), 45, 60)]
    {
        let upstream = Upstream::start().await;
        upstream.token_auth(&auth);
        let digest = upstream.blob("a/one", blob(10, 1));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let path = blob_path("a/one", &digest);
        assert_eq!(mirror.client().head(&path).await.status, 200);
        mirror.advance(Duration::from_secs(good));
        assert_eq!(mirror.client().head(&path).await.status, 200);
        assert_eq!(auth.issued().len(), 1, "after {good} s");
        mirror.advance(Duration::from_secs(over - good));
        assert_eq!(mirror.client().head(&path).await.status, 200);
        assert_eq!(auth.issued().len(), 2, "after {over} s");
        let refused = upstream.requests().iter().filter(|request| request.status() == Some(401)).count();
        assert_eq!(refused, 1, "it was renewed before it was refused");
    }
}

#[tokio::test]
async fn a_token_is_read_from_either_field() {
    for field in [TokenField::Token, TokenField::AccessToken, TokenField::Both] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        upstream.token_auth(&TokenAuth::new().field(field));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        assert_eq!(mirror.client().get(APP).await.status, 200, "{field:?}");
    }
}

#[tokio::test]
async fn a_token_that_expired_without_a_challenge_is_renewed_by_the_remembered_one() {
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new().challenges(1);
    upstream.token_auth(&auth);
    let digest = upstream.blob("a/one", blob(10, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let path = blob_path("a/one", &digest);
    assert_eq!(mirror.client().head(&path).await.status, 200);
    auth.expire_all();
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!(auth.issued().len(), 2);
}

#[tokio::test]
async fn a_401_is_answered_with_one_more_round_and_never_a_third() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let auth = TokenAuth::new().private("library/app");
    upstream.token_auth(&auth);
    let mirror = Mirror::start(hub(upstream.url(), "negative_ttl = \"0s\"")).await;
    for pull in 1..=3 {
        let answer = mirror.client().get(&format!("/v2/library/app/manifests/{}", app.digest)).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"));
        assert!(answer.text().contains("private or missing"), "{}", answer.text());
        assert_eq!((upstream.requests_of(&manifests()).len(), auth.issued().len()), (2 * pull, pull));
    }
}

#[tokio::test]
async fn an_oversized_token_is_refused() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    upstream.token_auth(&TokenAuth::new().padding(1024 * 1024));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("1 MiB"), "{}", answer.text());
    assert!(upstream.requests().iter().all(|request| request.bearer().is_none()));
    upstream.token_auth(&TokenAuth::new().padding(1000 * 1024));
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

#[tokio::test]
async fn t43_a_token_of_more_than_64_kib_is_refused() {
    for (bytes, status) in [(64 * 1024, 200), (64 * 1024 + 1, 502)] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        let challenge = format!("Bearer realm=\"{}/token\"", upstream.url());
        let anonymous = |request: &Recorded| request.bearer().is_none();
        upstream.script(manifests().when(anonymous).always().status(401).header("www-authenticate", &challenge));
        upstream.script(tokens().always().body(format!("{{\"token\":\"{}\"}}", "t".repeat(bytes)).into_bytes()));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, status, "{bytes}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_token_answer_that_makes_no_sense_is_refused_and_asked_for_again() {
    for body in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nx: y"}"#, r#"{"token":7}"#, "<html>"] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        let auth = TokenAuth::new();
        upstream.token_auth(&auth);
        // HEAD of the tag, then nothing more.
        upstream.script(tokens().once().body(body));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        assert_eq!(mirror.client().get(APP).await.status, 502, "{body}");
        assert_eq!(mirror.client().get(APP).await.status, 200, "{body}");
    }
}

#[tokio::test]
async fn an_upstream_that_changes_how_it_wants_to_be_signed_in_to_is_followed() {
    let secrets = super::secrets::Secrets::new();
    let upstream = Upstream::start().await;
    let digest = upstream.blob("a/one", blob(10, 1));
    upstream.basic_auth(BasicAuth::new().user("robot", "right"));
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
    let path = blob_path("a/one", &digest);
    assert_eq!(mirror.client().head(&path).await.status, 200);
    upstream.token_auth(&TokenAuth::new().user("robot", "right").login_required());
    assert_eq!(mirror.client().head(&path).await.status, 200);
}

/// Nobody waits for it, and a token that nobody uses is left to expire.
#[tokio::test]
async fn a_token_in_use_is_renewed_before_it_expires() {
    let upstream = Upstream::start().await;
    upstream.token_auth(&TokenAuth::new());
    let digest = upstream.blob("a/one", blob(10, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let (client, path) = (mirror.client(), blob_path("a/one", &digest));
    assert_eq!(client.head(&path).await.status, 200);
    mirror.advance(Duration::from_secs(230));
    assert_eq!(client.head(&path).await.status, 200);
    assert_eq!(upstream.requests_of(&tokens()).len(), 1, "it has much of its 300 s left");
    mirror.advance(Duration::from_secs(20));
    let gate = Gate::closed();
    upstream.script(tokens().once().stall_before_headers(&gate));
    for _ in 0..3 {
        assert_eq!(client.head(&path).await.status, 200, "the old one still serves");
    }
    gate.arrived().await;
    gate.open();
    upstream.wait_for(2, tokens()).await;
    mirror.advance(Duration::from_secs(200));
    assert_eq!(client.head(&path).await.status, 200);
    assert_eq!(upstream.requests_of(&tokens()).len(), 2, "and the new one after it");
}
