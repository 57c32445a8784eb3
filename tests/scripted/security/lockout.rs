//! T12: an account is not locked by a mirror that goes on with a wrong password.

use std::time::Duration;

use super::secrets::Secrets;
use super::{blob_path, hub};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const PULLS: usize = 100;

/// So many at once, each of a repository of its own; their statuses, all alike.
async fn pull_many(mirror: &Mirror, digest: &str) -> u16 {
    let client = mirror.client();
    let pulls: Vec<_> = (0..PULLS)
        .map(|n| {
            let (client, path) = (client.clone(), blob_path(&format!("org/app{n}"), digest));
            tokio::spawn(async move { client.head(&path).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for pull in pulls {
        statuses.push(pull.await.unwrap());
    }
    statuses.dedup();
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    statuses[0]
}

async fn upstream_with_blobs() -> (Upstream, String) {
    let upstream = Upstream::start().await;
    let mut digest = String::new();
    for n in 0..PULLS {
        digest = upstream.blob(&format!("org/app{n}"), blob(10, 1));
    }
    (upstream, digest)
}

#[tokio::test]
async fn t12_a_wrong_password_is_sent_to_the_token_server_once_in_a_window() {
    let secrets = Secrets::new();
    let (upstream, digest) = upstream_with_blobs().await;
    let auth = TokenAuth::new().user("robot", "right").login_required();
    upstream.token_auth(&auth);
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "wrong"))).await;
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(auth.failed_logins(), 1);
    mirror.advance(Duration::from_secs(61));
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(auth.failed_logins(), 2);
    secrets.login("robot", "right");
    assert_eq!(pull_many(&mirror, &digest).await, 200, "a file that is put right works at once");
    assert_eq!(auth.failed_logins(), 2);
}

#[tokio::test]
async fn t12_a_wrong_password_is_sent_to_a_basic_registry_once_in_a_window() {
    let secrets = Secrets::new();
    let (upstream, digest) = upstream_with_blobs().await;
    upstream.basic_auth(BasicAuth::new().user("robot", "right"));
    let logins = || upstream.requests().iter().filter(|request| request.header("authorization").is_some()).count();
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "wrong"))).await;
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(logins(), 1);
    mirror.advance(Duration::from_secs(61));
    assert_eq!(pull_many(&mirror, &digest).await, 403);
    assert_eq!(logins(), 2);
    secrets.login("robot", "right");
    assert_eq!(pull_many(&mirror, &digest).await, 200, "a file that is put right works at once");
}

#[tokio::test]
async fn t12_a_repository_that_is_closed_to_a_good_login_does_not_lock_it_out_of_others() {
    let secrets = Secrets::new();
    let (upstream, digest) = upstream_with_blobs().await;
    let lines = secrets.login("robot", "right");
    let closed = |request: &Recorded| request.query.contains("app7");
    upstream.token_auth(&TokenAuth::new().user("robot", "right").login_required());
    upstream.script(tokens().when(closed).always().status(403));
    let by_token = Mirror::start(hub(upstream.url(), &lines)).await;
    let basic = Upstream::start().await;
    for name in ["org/app1", "org/app2", "org/app7"] {
        basic.blob(name, blob(10, 1));
    }
    basic.basic_auth(BasicAuth::new().user_of("robot", "right", &["org/app1", "org/app2"]));
    let by_basic = Mirror::start(hub(basic.url(), &lines)).await;
    for mirror in [by_token, by_basic] {
        for (repository, expected) in [("org/app1", 200), ("org/app7", 403), ("org/app2", 200), ("org/app1", 200)] {
            let status = mirror.client().get(&blob_path(repository, &digest)).await.status;
            assert_eq!(status, expected, "{repository}");
        }
    }
}
