//! Facts that cannot be written cost requests, not pulls; and facts are written again when the disk takes them.

use std::os::unix::fs::PermissionsExt as _;

use super::{eventually, lose_the_index, serves_as_before};
use crate::support::client::Client;
use crate::support::image::image;
use crate::support::mirror::{Mirror, Stopped};
use crate::support::upstream::*;

/// Behind a torn line a new file is begun, which cannot be made where [`takes_no_facts`].
pub(super) fn tear_the_journal(stopped: &Stopped) {
    let journal = super::files(stopped, "journal-").remove(0);
    let torn = std::fs::read(&journal).unwrap().into_iter().chain(*b"torn").collect::<Vec<_>>();
    std::fs::write(&journal, torn).unwrap();
}

/// Something is in the way of the facts until what this gives is called.
pub(super) fn takes_no_facts(mirror: &Mirror) -> impl FnOnce() + use<> {
    let (facts, away) = (mirror.storage().join("facts"), mirror.storage().join("facts-away"));
    std::fs::rename(&facts, &away).unwrap();
    std::fs::write(&facts, "in the way").unwrap();
    move || {
        std::fs::remove_file(&facts).unwrap();
        std::fs::rename(&away, &facts).unwrap();
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_fails_no_pull_is_told_and_heals() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(50_000, 1)]);
    upstream.publish("org/app", "1", &app);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let put_back = takes_no_facts(&mirror);
    let paths = ["/v2/org/app/manifests/1".to_owned(), format!("/v2/org/app/blobs/{}", app.layers()[0].digest)];
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
    let well = || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#);
    eventually("it is told", async || well() == 0.0).await;
    let ready = Client::new(mirror.admin).get("/readyz").await;
    assert_eq!(ready.status, 200, "pulls go on");
    assert!(ready.text().starts_with("ready\ndegraded: index: facts cannot be written"), "{}", ready.text());
    put_back();
    eventually("it heals", async || well() == 1.0).await;
    assert_eq!(Client::new(mirror.admin).get("/readyz").await.text(), "ready\n");
    // Facts that were learnt meanwhile are asked for once more. The bytes are there.
    upstream.forget_requests();
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
    assert_eq!(upstream.requests_of(&blobs().get()).len(), 0);
    upstream.forget_requests();
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.header("cache-status"), "roadstead; hit");
    }
    assert_eq!(upstream.requests().len(), 0);
    serves_as_before(upstream, mirror, &paths, lose_the_index).await;
}

#[tokio::test]
async fn facts_are_for_their_owner_only() {
    let upstream = Upstream::start().await;
    upstream.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    let mode = |path: &str| std::fs::metadata(mirror.storage().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("facts"), mode("facts/journal-000000000001.jsonl")), (0o750, 0o640));
}

/// T13: a full disk lets nobody read on what upstream refuses.
#[tokio::test]
async fn what_upstream_refuses_is_refused_while_facts_cannot_be_written_and_afterwards() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(50_000, 1)]);
    upstream.publish("org/app", "1", &app);
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\nbreaker_window = \"0s\"\non_denied = \"refuse\"\n",
        upstream.url()
    );
    let mirror = Mirror::start(toml).await;
    mirror.pull_whole("org/app", "1").await;
    assert_eq!(mirror.client().get("/v2/org/app/tags/list").await.status, 200);
    let paths = [
        "/v2/org/app/manifests/1".to_owned(),
        format!("/v2/org/app/manifests/{}", app.digest),
        format!("/v2/org/app/blobs/{}", app.layers()[0].digest),
        "/v2/org/app/tags/list".to_owned(),
    ];
    let stopped = mirror.stop().await;
    tear_the_journal(&stopped);
    let mirror = stopped.start().await;
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.header("cache-status"), "roadstead; hit", "{path}");
    }
    let put_back = takes_no_facts(&mirror);
    mirror.advance(std::time::Duration::from_mins(2));
    let denial = upstream.script(every_request().always().status(403));
    let well = || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#);
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.status, 403, "{path}");
    }
    assert_eq!(well(), 0.0);
    put_back();
    eventually("it heals", async || well() == 1.0).await;
    // Written down by now: it outlives this process, with an upstream that is merely down.
    denial.revoke();
    upstream.stop().await;
    let mirror = mirror.restart().await;
    for path in &paths {
        assert_eq!(mirror.client().get(path).await.status, 502, "{path}");
    }
    upstream.restart().await;
    assert_eq!(mirror.client().get(&paths[0]).await.status, 200, "access is back");
}

/// One grant had opened it to the whole registry: it is refused in all of it.
#[tokio::test]
async fn what_a_public_upstream_refuses_is_refused_everywhere_while_facts_cannot_be_written() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(50_000, 1)]);
    upstream.publish("org/app", "1", &app);
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\nbreaker_window = \"0s\"\npublic = true\non_denied = \"refuse\"\n",
        upstream.url()
    );
    let mirror = Mirror::start(toml).await;
    mirror.pull_whole("org/app", "1").await;
    let elsewhere = [
        format!("/v2/other/name/manifests/{}", app.digest),
        format!("/v2/other/name/blobs/{}", app.layers()[0].digest),
    ];
    // Grants in other scopes are facts, too, and written down now.
    for path in &elsewhere {
        assert_eq!(mirror.client().get(path).await.status, 200, "{path}");
    }
    let stopped = mirror.stop().await;
    tear_the_journal(&stopped);
    let mirror = stopped.start().await;
    for path in &elsewhere {
        assert_eq!(mirror.client().get(path).await.header("cache-status"), "roadstead; hit", "{path}");
    }
    let put_back = takes_no_facts(&mirror);
    mirror.advance(std::time::Duration::from_mins(2));
    let denial = upstream.script(every_request().always().status(403));
    let well = || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 403);
    for path in &elsewhere {
        assert_eq!(mirror.client().get(path).await.status, 403, "{path}");
    }
    assert_eq!(well(), 0.0);
    put_back();
    eventually("it heals", async || well() == 1.0).await;
    denial.revoke();
    upstream.stop().await;
    let mirror = mirror.restart().await;
    for path in &elsewhere {
        assert_eq!(mirror.client().get(path).await.status, 502, "{path}");
    }
}
