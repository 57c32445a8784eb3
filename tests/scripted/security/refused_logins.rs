//! T41: a login that is refused revokes nothing. Only an answer to a right login does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secrets::Secrets;
use super::{blob_path, hub};
use crate::support::client::Client;
use crate::support::image::{Image, image};
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const REPOSITORIES: [&str; 3] = ["team/one", "team/two", "team/three"];

const GAUGE: &str =
    "roadstead_upstream_trouble{authority=\"docker.io\",endpoint=\"docker.io\",trouble=\"login_refused\"}";

/// How an upstream is signed in to, and how it refuses a login.
#[derive(Debug, Clone, Copy)]
enum Door {
    Token401,
    Token403,
    Basic401,
    /// ECR's, for a login that has expired.
    Basic403,
}

const DOORS: [Door; 4] = [Door::Token401, Door::Token403, Door::Basic401, Door::Basic403];

fn accepts(upstream: &Upstream, door: Door, password: &'static str) {
    upstream.clear_script();
    let right = format!("Basic {}", STANDARD.encode(format!("robot:{password}")));
    let is_wrong = move |request: &Recorded| request.header("authorization").is_some_and(|given| given != right);
    match door {
        Door::Token401 | Door::Token403 => {
            upstream.token_auth(&TokenAuth::new().user("robot", password).login_required());
            if matches!(door, Door::Token403) {
                upstream.script(tokens().when(is_wrong).always().status(403));
            }
        }
        Door::Basic401 | Door::Basic403 => {
            upstream.basic_auth(BasicAuth::new().user("robot", password));
            if matches!(door, Door::Basic403) {
                upstream.script(every_request().when(is_wrong).unauthorized_too().always().status(403));
            }
        }
    }
}

/// Three repositories, held.
async fn held(door: Door) -> (Secrets, Upstream, Mirror, Image) {
    let (secrets, upstream) = (Secrets::new(), Upstream::start().await);
    let app = image(&[blob(1000, 1)]);
    for repository in REPOSITORIES {
        upstream.publish(repository, "v", &app);
    }
    accepts(&upstream, door, "old");
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "old"))).await;
    for repository in REPOSITORIES {
        mirror.pull_whole(repository, "v").await;
    }
    // Behind the life of tags and of tokens.
    mirror.advance(Duration::from_mins(10));
    (secrets, upstream, mirror, app)
}

fn tag(repository: &str) -> String {
    format!("/v2/{repository}/manifests/v")
}

async fn ready(mirror: &Mirror) -> String {
    Client::new(mirror.admin).get("/readyz").await.text()
}

#[tokio::test]
async fn t41_what_is_held_is_served_stale_while_the_login_is_refused() {
    for door in DOORS {
        let (secrets, upstream, mirror, app) = held(door).await;
        accepts(&upstream, door, "new");
        for _round in 0..3 {
            for repository in REPOSITORIES {
                let stale = mirror.client().get(&tag(repository)).await;
                assert_eq!(
                    (stale.status, stale.header("warning").is_empty()),
                    (200, false),
                    "{door:?} {}",
                    stale.text()
                );
                for path in [
                    format!("/v2/{repository}/manifests/{}", app.digest),
                    blob_path(repository, &app.layers()[0].digest),
                ] {
                    assert_eq!(mirror.client().get(&path).await.status, 200, "{door:?} {path}");
                }
            }
            mirror.advance(Duration::from_mins(2));
        }
        let unseen = mirror.client().get("/v2/team/one/manifests/unseen").await;
        assert_eq!((unseen.status, unseen.code().as_str()), (403, "DENIED"), "{door:?}");
        assert!(unseen.text().contains("configured credentials"), "{door:?}: {}", unseen.text());
        secrets.login("robot", "new");
        mirror.advance(Duration::from_mins(2));
        for repository in REPOSITORIES {
            let fresh = mirror.client().get(&tag(repository)).await;
            assert_eq!((fresh.status, fresh.header("warning")), (200, ""), "{door:?}: {}", fresh.text());
        }
    }
}

#[tokio::test]
async fn t41_a_refused_login_is_told_once_until_it_works_again() {
    for door in DOORS {
        let log = Log::begin();
        let (secrets, upstream, mirror, _app) = held(door).await;
        let file = secrets.path("robot").display().to_string();
        let what = format!("docker.io refuses the credentials in {file}");
        let warnings = || log.text().lines().filter(|line| line.contains("WARN") && line.contains(&what)).count();
        assert_eq!(ready(&mirror).await, "ready\n");
        accepts(&upstream, door, "new");
        for _round in 0..3 {
            for repository in REPOSITORIES {
                assert_eq!(mirror.client().get(&tag(repository)).await.status, 200);
            }
            mirror.advance(Duration::from_mins(2));
        }
        assert_eq!(warnings(), 1, "{door:?}: {}", log.text());
        assert!(ready(&mirror).await.contains(&format!("\ndegraded: upstream: {what}")), "{}", ready(&mirror).await);
        assert_eq!(mirror.metric(GAUGE), 1.0);
        let status = Client::new(mirror.admin).get("/api/v1/status").await.json();
        assert_eq!(status["degraded"][0]["part"], "upstream", "{status}");
        assert!(status["degraded"][0]["why"].as_str().unwrap().starts_with(&what), "{status}");
        // Another wrong one is news.
        secrets.login("robot", "newer");
        assert_eq!(mirror.client().get(&tag("team/one")).await.status, 200);
        assert_eq!(warnings(), 2, "{door:?}");
        secrets.login("robot", "new");
        mirror.advance(Duration::from_mins(2));
        assert_eq!(mirror.client().get(&tag("team/one")).await.header("warning"), "");
        assert_eq!((ready(&mirror).await.as_str(), warnings()), ("ready\n", 2), "{door:?}");
        assert_eq!(mirror.metric(GAUGE), 0.0, "{door:?}");
    }
}

/// What an upstream answers to a login that is right, in the one repository that it may not read any more.
#[tokio::test]
async fn t41_a_right_login_that_is_refused_in_one_repository_is_a_revocation() {
    for door in DOORS {
        let (_secrets, upstream, mirror, app) = held(door).await;
        let is_closed = |request: &Recorded| request.query.contains("team%2Fone");
        match door {
            Door::Token401 => drop(upstream.script(tokens().when(is_closed).always().status(401))),
            Door::Token403 => drop(upstream.script(tokens().when(is_closed).always().status(403))),
            Door::Basic401 => {
                upstream.basic_auth(BasicAuth::new().user_of("robot", "old", &["team/two", "team/three"]));
            }
            Door::Basic403 => drop(upstream.script(every_request().repository("team/one").always().status(403))),
        }
        let answer = mirror.client().get(&tag("team/one")).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"), "{door:?}");
        for path in [format!("/v2/team/one/manifests/{}", app.digest), blob_path("team/one", &app.layers()[0].digest)] {
            assert_eq!(mirror.client().get(&path).await.status, 403, "{door:?} {path}");
        }
        assert_eq!(ready(&mirror).await, "ready\n", "{door:?}");
        for repository in ["team/two", "team/three"] {
            let other = mirror.client().get(&tag(repository)).await;
            assert_eq!((other.status, other.header("warning")), (200, ""), "{door:?}: {}", other.text());
        }
    }
}

/// A token for a right login that does not open the repository, as of Docker Hub.
#[tokio::test]
async fn t41_a_token_of_a_right_login_that_opens_nothing_is_a_revocation() {
    let (_secrets, upstream, mirror, app) = held(Door::Token401).await;
    upstream.token_auth(&TokenAuth::new().user_of("robot", "old", &["team/two"]).login_required());
    assert_eq!(mirror.client().get(&tag("team/one")).await.status, 403);
    assert_eq!(mirror.client().get(&format!("/v2/team/one/manifests/{}", app.digest)).await.status, 403);
    assert_eq!(mirror.client().get(&tag("team/two")).await.header("warning"), "");
}

/// After a restart, nobody knows whether the login or the access has gone. A minute later, somebody does.
#[tokio::test]
async fn t41_a_revocation_that_a_restart_hides_is_found_a_minute_later() {
    for door in [Door::Token401, Door::Token403, Door::Basic401] {
        let (_secrets, upstream, mirror, app) = held(door).await;
        let mirror = mirror.restart().await;
        let is_closed = |request: &Recorded| request.query.contains("team%2Fone");
        match door {
            Door::Token401 => drop(upstream.script(tokens().when(is_closed).always().status(401))),
            Door::Token403 => drop(upstream.script(tokens().when(is_closed).always().status(403))),
            Door::Basic401 | Door::Basic403 => {
                upstream.basic_auth(BasicAuth::new().user_of("robot", "old", &["team/two", "team/three"]));
            }
        }
        assert_eq!(mirror.client().get(&tag("team/one")).await.status, 200, "{door:?}: as for a wrong login");
        mirror.advance(Duration::from_mins(1));
        assert_eq!(mirror.client().get(&tag("team/one")).await.status, 403, "{door:?}");
        assert_eq!(
            mirror.client().get(&format!("/v2/team/one/manifests/{}", app.digest)).await.status,
            403,
            "{door:?}"
        );
    }
}

/// The password is tried once more than before, without a repository: else nobody could tell.
#[tokio::test]
async fn t12_a_password_that_has_changed_is_sent_twice_and_then_left_alone() {
    let (_secrets, upstream, mirror, _app) = held(Door::Token401).await;
    let auth = TokenAuth::new().user("robot", "new").login_required();
    upstream.token_auth(&auth);
    for repository in REPOSITORIES {
        assert_eq!(mirror.client().get(&tag(repository)).await.status, 200);
    }
    assert_eq!(auth.failed_logins(), 2);
}
