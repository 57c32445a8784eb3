//! `max_stale`: how old an answer may be when upstream cannot be asked (docs/SECURITY-THREATS.md, T24).

use std::time::Duration;

use super::upstream;
use crate::support::image::index;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t24_nothing_older_than_max_stale_is_served_whatever_the_cause() {
    for (lines, step, status) in [
        ("", manifests().always().status(500), 502),
        ("", manifests().always().too_many_requests("5"), 429),
        ("keep_deleted = true", manifests().always().status(404), 404),
        ("on_denied = \"stale\"", manifests().always().status(403), 403),
    ] {
        let registry = Upstream::start().await;
        registry.publish("org/app", "1", &index(&[]));
        let lines = format!("max_stale = \"1h\"\nbreaker_window = \"0s\"\n{lines}");
        let mirror = Mirror::start(upstream("docker.io", &registry, &lines)).await;
        let pull = async || mirror.client().get("/v2/org/app/manifests/1").await;
        assert_eq!(pull().await.status, 200);
        registry.script(step);
        mirror.advance(Duration::from_mins(50));
        let answer = pull().await;
        assert_eq!((answer.status, answer.header("warning").is_empty()), (200, false), "{lines}");
        // Inside the hold of that failure too.
        mirror.advance(Duration::from_mins(11));
        assert_eq!(pull().await.status, status, "{lines}");
    }
}

#[tokio::test]
async fn t24_an_upstream_that_is_offline_by_configuration_is_bounded_too() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &index(&[]));
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    assert_eq!(mirror.client().get("/v2/org/app/tags/list").await.status, 200);
    let offline = upstream("docker.io", &registry, "offline = true\nmax_stale = \"1h\"");
    let mirror = mirror.stop().await.start_with(offline).await;
    mirror.advance(Duration::from_mins(59));
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 404);
}

#[tokio::test]
async fn t24_without_a_bound_what_is_held_is_served_for_ever() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &index(&[]));
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    registry.stop().await;
    mirror.advance(Duration::from_hours(24 * 30));
    let answer = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((answer.status, answer.header("warning").is_empty()), (200, false));
    assert_eq!(answer.header("age"), (30 * 24 * 3600).to_string());
}
