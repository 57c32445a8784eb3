//! T40: what one repository's challenge, or its token server's refusal, says counts for that repository only.

use std::time::Duration;

use super::secrets::Secrets;
use super::{blob_path, hub};
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Status and token of a token server at this path.
fn token_server(upstream: &Upstream, path: &'static str, scope: &'static str, status: u16, token: &str) {
    let is_asked = move |request: &Recorded| request.path == path && request.query.contains(scope);
    let step = files().when(is_asked).always().status(status);
    upstream.script(step.body(format!("{{\"token\":\"{token}\"}}").into_bytes()));
}

/// Repositories under `group/` want this token of this token server.
fn wants(upstream: &Upstream, group: &'static str, path: &str, token: &'static str) {
    let is_refused = move |request: &Recorded| {
        let is_here = request.repository.as_deref().is_some_and(|name| name.starts_with(group));
        is_here && request.bearer() != Some(token)
    };
    let challenge =
        format!("Bearer realm=\"{}{path}\",service=\"svc\",scope=\"repository:{group}x:pull\"", upstream.url());
    upstream.script(every_request().when(is_refused).always().status(401).header("www-authenticate", &challenge));
}

fn publish(upstream: &Upstream, repository: &str, seed: u64) -> Image {
    let app = image(&[blob(1000, seed)]);
    upstream.publish(repository, "v", &app);
    app
}

fn counts(upstream: &Upstream) -> (usize, usize) {
    let requests = upstream.requests();
    let refused = requests.iter().filter(|request| request.status() == Some(401)).count();
    (refused, requests.iter().filter(|request| request.path.ends_with("token")).count())
}

const ALPHA: &str = "/api/docker/alpha/v2/token";
const BETA: &str = "/api/docker/beta/v2/token";

/// `strict`: a token server refuses repositories of the other group. Else it gives a token that they do not take.
#[tokio::test]
async fn t40_groups_of_repositories_with_token_servers_of_their_own_are_pulled_side_by_side() {
    for strict in [true, false] {
        let upstream = Upstream::start().await;
        let apps = [("alpha/app", publish(&upstream, "alpha/app", 1)), ("beta/app", publish(&upstream, "beta/app", 2))];
        wants(&upstream, "alpha/", ALPHA, "of-alpha");
        wants(&upstream, "beta/", BETA, "of-beta");
        token_server(&upstream, ALPHA, "alpha", 200, "of-alpha");
        token_server(&upstream, BETA, "beta", 200, "of-beta");
        let foreign = if strict { 403 } else { 200 };
        token_server(&upstream, ALPHA, "beta", foreign, "of-alpha");
        token_server(&upstream, BETA, "alpha", foreign, "of-beta");
        let mirror = Mirror::start(hub(upstream.url(), "tag_ttl = \"0s\"\non_denied = \"refuse\"")).await;
        for round in 0..6 {
            for (repository, app) in &apps {
                let manifest = mirror.client().get(&format!("/v2/{repository}/manifests/v")).await;
                assert_eq!(manifest.status, 200, "{strict} {round} {repository}: {}", manifest.text());
                let layer = mirror.client().get(&blob_path(repository, &app.layers()[0].digest)).await;
                assert_eq!(layer.status, 200, "{strict} {round} {repository}: {}", layer.text());
            }
        }
        assert_eq!(counts(&upstream), (2, 2), "one challenge and one token for each group");
    }
}

/// Whether the old token is still good for its server, and what the old token server answers.
#[tokio::test]
async fn t40_a_token_server_that_has_moved_is_followed_at_once() {
    for (after, status) in [(10, 403), (10, 401), (10, 404), (10, 500), (600, 403), (600, 401), (600, 404), (600, 500)]
    {
        let upstream = Upstream::start().await;
        publish(&upstream, "org/app", 1);
        wants(&upstream, "org/", "/old/token", "old");
        token_server(&upstream, "/old/token", "org", 200, "old");
        let lines = "tag_ttl = \"0s\"\non_denied = \"refuse\"\nnegative_ttl = \"0s\"";
        let mirror = Mirror::start(hub(upstream.url(), lines)).await;
        assert_eq!(mirror.client().get("/v2/org/app/manifests/v").await.status, 200);
        upstream.clear_script();
        wants(&upstream, "org/", "/new/token", "new");
        token_server(&upstream, "/old/token", "org", status, "old");
        token_server(&upstream, "/new/token", "org", 200, "new");
        mirror.advance(Duration::from_secs(after));
        for check in 0..8 {
            let held = mirror.client().get("/v2/org/app/manifests/v").await;
            assert_eq!((held.status, held.header("warning")), (200, ""), "{after} {status} {check}: {}", held.text());
            let repository = format!("org/new{check}");
            publish(&upstream, &repository, 10 + check);
            let new = mirror.client().get(&format!("/v2/{repository}/manifests/v")).await;
            assert_eq!(new.status, 200, "{after} {status} {repository}: {}", new.text());
        }
    }
}

/// The old token server refuses the login, which the new one takes.
#[tokio::test]
async fn t40_a_token_server_that_has_moved_is_followed_at_once_with_credentials() {
    for (scope, status) in [("scope", 403), ("", 401)] {
        let secrets = Secrets::new();
        let upstream = Upstream::start().await;
        let repositories = ["org/one", "org/two", "org/three"];
        for (repository, seed) in repositories.into_iter().zip(1..) {
            publish(&upstream, repository, seed);
        }
        wants(&upstream, "org/", "/old/token", "old");
        token_server(&upstream, "/old/token", "org", 200, "old");
        let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "right"))).await;
        for repository in repositories {
            assert_eq!(mirror.client().get(&format!("/v2/{repository}/manifests/v")).await.status, 200);
        }
        upstream.clear_script();
        wants(&upstream, "org/", "/new/token", "new");
        token_server(&upstream, "/old/token", scope, status, "old");
        token_server(&upstream, "/new/token", "org", 200, "new");
        mirror.advance(Duration::from_mins(10));
        for repository in repositories {
            let held = mirror.client().get(&format!("/v2/{repository}/manifests/v")).await;
            assert_eq!((held.status, held.header("warning")), (200, ""), "{status} {repository}: {}", held.text());
        }
        let is_old = |request: &&Recorded| request.path == "/old/token" && request.status() == Some(status);
        let refused = upstream.requests().iter().filter(is_old).count();
        assert!(refused <= 3, "{refused}: the old one is not asked for each repository");
    }
}

#[tokio::test]
async fn t40_a_token_server_that_refuses_and_is_still_named_is_believed() {
    for status in [401, 403] {
        let upstream = Upstream::start().await;
        let app = publish(&upstream, "org/app", 1);
        wants(&upstream, "org/", "/token", "good");
        upstream.script(tokens().up_to(1).body("{\"token\":\"good\"}"));
        let lines = "tag_ttl = \"1m\"\non_denied = \"refuse\"\nnegative_ttl = \"0s\"";
        let mirror = Mirror::start(hub(upstream.url(), lines)).await;
        mirror.pull_whole("org/app", "v").await;
        upstream.clear_script();
        wants(&upstream, "org/", "/token", "other");
        upstream.script(tokens().always().status(status));
        mirror.advance(Duration::from_mins(10));
        upstream.forget_requests();
        assert_eq!(mirror.client().get("/v2/org/app/manifests/v").await.status, 403);
        let asked = upstream.requests();
        assert_eq!((asked.len(), counts(&upstream).1), (2, 1), "the token server, and the endpoint once");
        let by_digest = format!("/v2/org/app/manifests/{}", app.digest);
        assert_eq!(mirror.client().get(&by_digest).await.status, 403, "{status}: what was granted is forgotten");
    }
}

/// nvcr.io names another token server when a token has expired than when there was none.
#[tokio::test]
async fn t40_a_wrong_realm_in_answer_to_an_expired_token_does_not_replace_the_right_one() {
    for wrong in ["/wrong/token", "https://elsewhere.test/token"] {
        for status in [200, 401, 403, 404] {
            let upstream = Upstream::start().await;
            publish(&upstream, "org/app", 1);
            wants(&upstream, "org/", "/right/token", "first");
            token_server(&upstream, "/right/token", "org", 200, "first");
            let mirror = Mirror::start(hub(upstream.url(), "tag_ttl = \"0s\"\non_denied = \"refuse\"")).await;
            assert_eq!(mirror.client().get("/v2/org/app/manifests/v").await.status, 200);
            upstream.clear_script();
            let realm = if wrong.starts_with('/') { format!("{}{wrong}", upstream.url()) } else { wrong.to_owned() };
            let challenge = format!("Bearer realm=\"{realm}\",service=\"svc\"");
            let is_refused = |request: &Recorded| request.repository.is_some() && request.bearer() != Some("second");
            upstream
                .script(every_request().when(is_refused).always().status(401).header("www-authenticate", &challenge));
            token_server(&upstream, "/wrong/token", "org", status, "useless");
            token_server(&upstream, "/right/token", "org", 200, "second");
            for _ in 0..2 {
                let answer = mirror.client().get("/v2/org/app/manifests/v").await;
                assert_eq!((answer.status, answer.header("warning")), (200, ""), "{wrong} {status}: {}", answer.text());
            }
        }
    }
}
