//! Upstream says no: refused, private, deleted (docs/SECURITY-THREATS.md, T13, T14).

use std::time::Duration;

use http::Method;

use super::upstream;
use crate::support::image::{Image, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TAG: &str = "/v2/org/app/manifests/1";

/// Nobody signs in there: a denial revokes only where that is configured.
const REFUSE: &str = "on_denied = \"refuse\"";

async fn one(lines: &str) -> (Upstream, Mirror, Image) {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let lines = format!("breaker_window = \"0s\"\n{lines}");
    let mirror = Mirror::start(upstream("docker.io", &registry, &lines)).await;
    mirror.pull_whole("org/app", "1").await;
    assert_eq!(mirror.client().get("/v2/org/app/tags/list").await.status, 200);
    mirror.advance(Duration::from_mins(2));
    (registry, mirror, app)
}

#[tokio::test]
async fn t13_revoked_access_is_refused_and_what_was_granted_forgotten() {
    for status in [401, 403] {
        let (registry, mirror, app) = one(REFUSE).await;
        let client = mirror.client();
        let denial = registry.script(every_request().always().status(status));
        let answer = client.get(TAG).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"), "{status}");
        // T14: no other way leads to it, whatever the method, the range or the condition.
        let layer = &app.layers()[0].digest;
        for part in [format!("manifests/{}", app.digest), format!("blobs/{layer}"), "manifests/1".to_owned()] {
            let path = format!("/v2/org/app/{part}");
            assert_ne!(client.get(&path).await.status, 200, "{status} {part}");
            assert_ne!(client.head(&path).await.status, 200, "{status} {part}");
            assert_ne!(client.range(&path, "0-0").await.status, 206, "{status} {part}");
            let condition = [("if-none-match", "*")];
            assert_ne!(client.send(Method::GET, &path, &condition).await.status, 304, "{status} {part}");
        }
        // Nor does an upstream that is merely down later on, nor a restart.
        denial.revoke();
        registry.stop().await;
        let mirror = mirror.restart().await;
        let client = mirror.client();
        assert_eq!(client.get(TAG).await.status, 502, "{status}: it is not served stale");
        assert_eq!(client.get("/v2/org/app/tags/list").await.status, 502, "{status}: nor are its tags listed");
        registry.restart().await;
        assert_eq!(client.get(TAG).await.body, app.manifest, "access is back");
    }
}

#[tokio::test]
async fn t13_access_revoked_in_one_repository_leaves_the_others_alone() {
    let (registry, mirror, app) = one(REFUSE).await;
    registry.publish("org/other", "1", &app);
    mirror.pull_whole("org/other", "1").await;
    registry.script(every_request().repository("org/app").always().status(403));
    assert_eq!(mirror.client().get(TAG).await.status, 403);
    registry.forget_requests();
    let answer = mirror.client().get(&format!("/v2/org/other/manifests/{}", app.digest)).await;
    assert_eq!((answer.status, registry.requests().len()), (200, 0));
}

#[tokio::test]
async fn what_a_public_upstream_refuses_is_forgotten_with_all_it_lists_and_the_rest_stays() {
    let (registry, mirror, app) = one(&format!("public = true\n{REFUSE}")).await;
    let kept = image(&[blob(10, 20)]);
    registry.publish("org/app", "kept", &kept);
    mirror.pull_whole("org/app", "kept").await;
    let denial = registry.script(every_request().always().status(403));
    assert_eq!(mirror.client().get(TAG).await.status, 403);
    for (refused, status) in [(&app, 403), (&kept, 200)] {
        let layer = &refused.layers()[0].digest;
        for repository in ["org/app", "org/other"] {
            for part in [format!("manifests/{}", refused.digest), format!("blobs/{layer}")] {
                let answer = mirror.client().get(&format!("/v2/{repository}/{part}")).await;
                assert_eq!(answer.status, status, "{repository}/{part}");
            }
        }
    }
    denial.revoke();
    registry.stop().await;
    let mirror = mirror.restart().await;
    let by_digest = |image: &Image| format!("/v2/org/other/manifests/{}", image.digest);
    assert_eq!(mirror.client().get(&by_digest(&app)).await.status, 502, "nor after a restart");
    assert_eq!(mirror.client().get(&by_digest(&kept)).await.status, 200);
}

#[tokio::test]
async fn on_denied_stale_serves_what_is_held_and_says_so() {
    let (registry, mirror, app) = one("on_denied = \"stale\"").await;
    registry.script(every_request().always().status(403));
    for path in [TAG, "/v2/org/app/tags/list"] {
        let answer = mirror.client().get(path).await;
        assert_eq!((answer.status, answer.header("warning").is_empty()), (200, false), "{path}");
    }
    let by_digest = mirror.client().get(&format!("/v2/org/app/manifests/{}", app.digest)).await;
    assert_eq!(by_digest.status, 200, "its grants stay");
    assert_eq!(mirror.client().get("/v2/org/app/manifests/unseen").await.status, 403);
}

#[tokio::test]
async fn a_deleted_tag_is_404_and_not_served_stale_later() {
    let (registry, mirror, app) = one("").await;
    let client = mirror.client();
    registry.remove_tag("org/app", "1");
    let answer = client.get(TAG).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(client.get(TAG).await.status, 502, "a tombstone is not served stale");
    let mirror = mirror.restart().await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get(TAG).await.status, 502);
    let by_digest = mirror.client().get(&format!("/v2/org/app/manifests/{}", app.digest)).await;
    assert_eq!((by_digest.status, by_digest.body), (200, app.manifest.clone()), "its grants stay");
    registry.restart().await;
    registry.tag("org/app", "1", &app.digest);
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get(TAG).await.body, app.manifest, "it may come back");
}

#[tokio::test]
async fn keep_deleted_goes_on_serving_a_tag_and_a_list_that_are_gone() {
    let (registry, mirror, app) = one("keep_deleted = true").await;
    registry.delete_repository("org/app");
    let client = mirror.client();
    for _now_and_later in 0..2 {
        let answer = client.get(TAG).await;
        assert_eq!((answer.status, &answer.body), (200, &app.manifest));
        assert!(answer.header("warning").starts_with("299 "));
        let listed = client.get("/v2/org/app/tags/list").await;
        assert_eq!(listed.json()["tags"], serde_json::json!(["1"]));
        mirror.advance(Duration::from_mins(2));
    }
    assert_eq!(client.get("/v2/org/app/manifests/unseen").await.status, 404);
    registry.stop().await;
    assert_eq!(client.get(TAG).await.status, 200, "it is no tombstone");
}

#[tokio::test]
async fn keep_deleted_serves_an_image_that_is_not_held_whole() {
    // Upstream deleted a tag; the blobs it may well have still.
    let (registry, mirror, _app) = one("keep_deleted = true").await;
    let part = image(&[blob(10, 9)]);
    registry.publish("org/app", "part", &part);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/part").await.status, 200);
    registry.remove_tag("org/app", "part");
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get("/v2/org/app/manifests/part").await.body, part.manifest);
}

#[tokio::test]
async fn gone_is_gone_by_410_too() {
    let (registry, mirror, _app) = one("").await;
    registry.script(manifests().always().status(410));
    assert_eq!(mirror.client().get(TAG).await.status, 404);
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get(TAG).await.status, 502);
}

#[tokio::test]
async fn t13_a_denial_is_counted() {
    let (registry, mirror, _app) = one(REFUSE).await;
    registry.publish("org/app", "list", &index(&[]));
    registry.script(every_request().always().status(403));
    mirror.client().get(TAG).await;
    let refused =
        "roadstead_requests_total{authority=\"docker.io\",kind=\"manifest\",outcome=\"error\",status=\"403\"}";
    assert_eq!(mirror.metric(refused), 1.0);
    assert_eq!(mirror.metric("roadstead_revalidations_total{authority=\"docker.io\",result=\"failed\"}"), 1.0);
}

fn signed_in(registry: &Upstream, lines: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "right").unwrap();
    let lines = format!("username = \"robot\"\npassword_file = \"{}\"\n{lines}", file.display());
    (directory, upstream("docker.io", registry, &lines))
}

#[tokio::test]
async fn t13_a_denial_is_served_stale_where_nobody_signs_in_and_revokes_where_somebody_does() {
    for (with_login, rule, status) in
        [(false, "", 200), (false, REFUSE, 403), (true, "", 403), (true, "on_denied = \"stale\"", 200)]
    {
        let registry = Upstream::start().await;
        let app = image(&[blob(10, 1)]);
        registry.publish("org/app", "1", &app);
        let auth = TokenAuth::new().user("robot", "right");
        registry.token_auth(&auth);
        let (_directory, toml) = signed_in(&registry, rule);
        let toml = if with_login { toml } else { upstream("docker.io", &registry, rule) };
        let mirror = Mirror::start(toml).await;
        mirror.pull_whole("org/app", "1").await;
        // As docker.io on a bad day: the token server gives tokens, and the registry answers 401 to all of them.
        registry.script(every_request().when(|request| request.repository.is_some()).always().status(401));
        mirror.advance(Duration::from_mins(2));
        let layer = &app.layers()[0].digest;
        for part in ["manifests/1".to_owned(), format!("manifests/{}", app.digest), format!("blobs/{layer}")] {
            let answer = mirror.client().get(&format!("/v2/org/app/{part}")).await;
            assert_eq!(answer.status, status, "{with_login} {rule} {part}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_denial_is_believed_for_negative_ttl_as_a_404_is() {
    let registry = Upstream::start().await;
    registry.basic_auth(BasicAuth::new().user("robot", "right"));
    let (_directory, toml) = signed_in(&registry, "");
    let mirror = Mirror::start(toml).await;
    let digest = sha256(b"closed");
    registry.script(every_request().repository("org/app").always().status(403));
    for part in [
        "manifests/1".to_owned(),
        format!("manifests/{digest}"),
        format!("blobs/{digest}"),
        "tags/list".to_owned(),
        format!("referrers/{digest}"),
    ] {
        let path = format!("/v2/org/app/{part}");
        let first = mirror.client().get(&path).await;
        assert_eq!((first.status, first.code().as_str()), (403, "DENIED"), "{part}: {}", first.text());
        registry.forget_requests();
        for _ in 0..20 {
            let again = mirror.client().get(&path).await;
            assert_eq!((again.status, again.code().as_str()), (403, "DENIED"), "{part}");
        }
        assert_eq!(registry.requests().len(), 0, "{part}");
        mirror.advance(Duration::from_secs(10));
        assert_eq!(mirror.client().get(&path).await.status, 403);
        assert!(!registry.requests().is_empty(), "{part}: it is asked again");
    }
}
