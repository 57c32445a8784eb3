//! Connect, header and idle deadlines; none on a body that keeps coming.

use std::time::Duration;

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn a_connection_that_neither_succeeds_nor_fails_is_given_up_and_opens_the_breaker() {
    let hole = BlackHole::open();
    let mirror = Mirror::start(hub(hole.url(), "connect_timeout = \"1s\"")).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("no connection within the connect timeout"), "{}", answer.text());
    assert!(mirror.client().get(APP).await.text().contains("is not asked for now"));
}

#[tokio::test]
async fn t32_an_upstream_that_accepts_and_says_nothing_is_a_504_by_the_response_timeout() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    upstream.script(manifests().always().hang_before_headers());
    let mirror = Mirror::start(hub(upstream.url(), "response_timeout = \"300ms\"")).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("no answer within the deadline"), "{}", answer.text());
    let next = mirror.client().get(APP).await;
    assert_eq!(next.status, 504);
    assert!(next.text().contains("is not asked for now"), "{}", next.text());
}

#[tokio::test]
async fn a_token_server_that_says_nothing_or_drips_is_a_504() {
    for drips in [false, true] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        upstream.token_auth(&TokenAuth::new());
        let step = tokens().always();
        upstream.script(if drips { step.hang_after(5) } else { step.hang_before_headers() });
        let mirror = Mirror::start(hub(upstream.url(), "response_timeout = \"300ms\"")).await;
        assert_eq!(mirror.client().get(APP).await.status, 504);
        // Nobody waits for the old one once it answers again.
        upstream.clear_script();
        mirror.advance(Duration::from_secs(10));
        assert_eq!(mirror.client().get(APP).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_stops_is_given_up_and_resumed() {
    let upstream = Upstream::start().await;
    let content = blob(1_000_000, 1);
    let digest = upstream.blob("org/app", &content);
    upstream.script(blobs().get().once().hang_after(300_000));
    let mirror = Mirror::start(hub(upstream.url(), "idle_timeout = \"300ms\"")).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    let starts: Vec<_> = upstream.requests_of(&blobs()).iter().map(Recorded::range_start).collect();
    assert_eq!(starts, [None, Some(300_000)]);
}

#[tokio::test]
async fn a_body_that_keeps_coming_may_take_longer_than_every_deadline() {
    let upstream = Upstream::start().await;
    let content = blob(1_000_000, 1);
    let digest = upstream.blob("org/app", &content);
    // More than a second of body, at intervals well below the idle timeout.
    upstream.throttle(600_000);
    let lines = "response_timeout = \"500ms\"\nidle_timeout = \"900ms\"\nconnect_timeout = \"500ms\"";
    let mirror = Mirror::start(hub(upstream.url(), lines)).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    assert_eq!(upstream.requests_of(&blobs()).len(), 1, "in one piece");
}
