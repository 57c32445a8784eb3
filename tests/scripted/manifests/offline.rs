//! `offline = true`: connect to nothing, serve what is held.

use std::time::Duration;

use super::upstream;
use crate::support::image::{artifact, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn offline_connects_to_nothing_and_serves_what_is_held() {
    let registry = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    registry.publish("org/app", "1", &app);
    registry.publish("org/app", "2", &image(&[blob(10, 2)]));
    let signature = artifact(&app, "application/vnd.test.signature", blob(10, 3));
    registry.put_referrer("org/app", &signature);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    mirror.pull_whole("org/app", "1").await;
    let client = mirror.client();
    for part in [format!("manifests/{}", signature.digest), "tags/list".to_owned()] {
        assert_eq!(client.get(&format!("/v2/org/app/{part}")).await.status, 200);
    }
    let stopped = mirror.stop().await;
    let canary = Canary::listen();
    let offline = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\noffline = true\n", canary.url());
    let mirror = stopped.start_with(offline).await;
    let client = mirror.client();
    for advance in [0, 100] {
        mirror.advance(Duration::from_mins(advance));
        let tag = client.get("/v2/org/app/manifests/1").await;
        assert_eq!((tag.status, &tag.body), (200, &app.manifest));
        assert_eq!(tag.header("warning").is_empty(), advance == 0, "inside its ttl it is no staler than elsewhere");
        let layer = &app.layers()[0].digest;
        assert_eq!(sha256(&client.get(&format!("/v2/org/app/blobs/{layer}")).await.body), *layer);
        assert_eq!(client.get(&format!("/v2/org/app/manifests/{}", app.digest)).await.body, app.manifest);
        let listed = client.get("/v2/org/app/tags/list").await;
        assert_eq!(listed.json()["tags"], serde_json::json!(["1", "2"]), "the last complete list");
        // Never asked for before: made of what is held.
        let referrers = client.get(&format!("/v2/org/app/referrers/{}", app.digest)).await;
        assert_eq!(referrers.json()["manifests"][0]["digest"], signature.digest);
        assert_eq!(referrers.json()["manifests"][0]["artifactType"], "application/vnd.test.signature");
        for (missing, code) in [
            ("manifests/2".to_owned(), "MANIFEST_UNKNOWN"),
            (format!("manifests/sha256:{}", "0".repeat(64)), "MANIFEST_UNKNOWN"),
            (format!("blobs/sha256:{}", "0".repeat(64)), "BLOB_UNKNOWN"),
        ] {
            let answer = client.get(&format!("/v2/org/app/{missing}")).await;
            assert_eq!((answer.status, answer.code().as_str()), (404, code), "{missing}");
            assert_eq!(client.head(&format!("/v2/org/app/{missing}")).await.status, 404);
        }
        assert_eq!(client.get("/v2/org/other/tags/list").await.status, 404);
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn offline_does_not_open_one_repository_through_another() {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    mirror.pull_whole("org/app", "1").await;
    let mirror = mirror.stop().await.start_with(upstream("docker.io", &registry, "offline = true")).await;
    for part in [format!("manifests/{}", app.digest), format!("blobs/{}", app.layers()[0].digest)] {
        assert_eq!(mirror.client().get(&format!("/v2/org/other/{part}")).await.status, 404, "t9 {part}");
    }
}

/// `[defaults] offline = true`: whoever is named, and whatever is asked.
#[tokio::test]
async fn offline_for_all_connects_to_nobody_whatever_is_asked() {
    let registry = Upstream::start().await;
    let app = image(&[blob(1000, 1)]);
    registry.publish("org/app", "1", &app);
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    mirror.pull_whole("org/app", "1").await;
    let stopped = mirror.stop().await;
    let (hub, quay) = (Canary::listen(), Canary::listen());
    let toml = format!(
        "[defaults]\noffline = true\n[upstreams.\"docker.io\"]\nurl = \"{}\"\n[upstreams.\"quay.io\"]\nurl = \"{}\"\n",
        hub.url(),
        quay.url(),
    );
    let mirror = stopped.start_with(toml).await;
    mirror.advance(Duration::from_hours(24 * 30));
    let client = mirror.client();
    assert_eq!(client.get("/v2/org/app/manifests/1").await.body, app.manifest);
    let layer = &app.layers()[0].digest;
    for missing in [
        "/v2/quay.io/org/app/manifests/1".to_owned(),
        "/v2/quay.io/org/app/tags/list".to_owned(),
        format!("/v2/quay.io/org/app/blobs/{layer}"),
        format!("/v2/quay.io/org/app/manifests/{}", app.digest),
        "/v2/org/app/manifests/2".to_owned(),
    ] {
        for _again in 0..2 {
            assert_eq!(client.get(&missing).await.status, 404, "{missing}");
            assert_eq!(client.head(&missing).await.status, 404, "{missing}");
        }
    }
    hub.assert_untouched();
    quay.assert_untouched();
}
