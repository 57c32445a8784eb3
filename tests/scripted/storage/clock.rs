//! A clock that was set back between two lives.

use std::time::Duration;

use super::{eventually, is_held, one, published, pull, quiet};
use crate::support::image::image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

const BACK: Duration = Duration::from_hours(400 * 24);

/// Starts again with a clock that is more than a year behind.
async fn set_back(mirror: Mirror) -> Mirror {
    set_back_by(mirror, BACK).await
}

async fn set_back_by(mirror: Mirror, by: Duration) -> Mirror {
    let clock = mirror.clock.clone();
    let stopped = mirror.stop().await;
    clock.set_back(by);
    stopped.start().await
}

#[tokio::test]
async fn a_tag_that_was_checked_before_the_clock_was_set_back_is_checked_again() {
    let upstream = Upstream::start().await;
    published(&upstream, "app", 1);
    let mirror = Mirror::start(format!("{}tag_ttl = \"1h\"", one(&upstream))).await;
    mirror.pull_whole("org/app", "1").await;
    let list = mirror.client().get("/v2/org/app/tags/list").await;
    assert_eq!(list.json()["tags"].as_array().unwrap().len(), 1);
    let moved = image(&[blob(100, 5)]);
    upstream.publish("org/app", "1", &moved);
    upstream.publish("org/app", "2", &moved);
    assert_ne!(mirror.client().get("/v2/org/app/manifests/1").await.body, moved.manifest, "it is fresh");
    let mirror = set_back(mirror).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.body, moved.manifest);
    let list = mirror.client().get("/v2/org/app/tags/list").await;
    assert_eq!(list.json()["tags"].as_array().unwrap().len(), 2);
    // From here on as ever.
    upstream.forget_requests();
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.header("cache-status"), "roadstead; hit");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_tag_that_was_gone_before_the_clock_was_set_back_is_looked_for_again() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(format!("{}tag_ttl = \"0s\"\nnegative_ttl = \"1h\"", one(&upstream))).await;
    mirror.pull_whole("org/app", "1").await;
    upstream.remove_tag("org/app", "1");
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 404);
    upstream.publish("org/app", "1", &app);
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 404, "remembered");
    let mirror = set_back(mirror).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
}

#[tokio::test]
async fn a_check_that_failed_before_the_clock_was_set_back_is_tried_again() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(format!("{}tag_ttl = \"1h\"", one(&upstream))).await;
    mirror.pull_whole("org/app", "1").await;
    // So long ago that the clock is not set back to before it.
    let back = Duration::from_hours(30 * 24);
    mirror.advance(back + Duration::from_hours(48));
    pull(&mirror.client(), "app", &app).await;
    upstream.script(every_request().always().status(500));
    mirror.advance(back + Duration::from_hours(24));
    let stale = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((stale.status, stale.header("warning").is_empty()), (200, false));
    upstream.clear_script();
    let moved = image(&[blob(100, 5)]);
    upstream.publish("org/app", "1", &moved);
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.body, app.manifest, "not yet");
    let mirror = set_back_by(mirror, back).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.body, moved.manifest);
}

#[tokio::test]
async fn grants_and_bytes_outlive_a_clock_that_is_set_back() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(one(&upstream)).await;
    mirror.pull_whole("org/app", "1").await;
    let mirror = set_back(mirror).await;
    upstream.forget_requests();
    assert!(is_held(&mirror.client(), "app", &app).await);
    let manifest = mirror.client().get(&format!("/v2/org/app/manifests/{}", app.digest)).await;
    assert_eq!(manifest.header("cache-status"), "roadstead; hit");
    assert!(upstream.requests().is_empty());
}

/// By the clock alone, whatever comes after it was set back would be the oldest, and go first.
#[tokio::test]
async fn the_order_of_eviction_outlives_a_clock_that_is_set_back() {
    let upstream = Upstream::start().await;
    let digests: Vec<_> = (0..7).map(|seed| upstream.blob("org/app", blob(1024 * 1024, seed))).collect();
    let limits = "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";
    let mirror = Mirror::builder(one(&upstream)).storage(limits).start().await;
    let kept = |mirror: &Mirror| -> Vec<usize> {
        let files = files_below(&mirror.storage().join("blobs"));
        let is_there = |digest: &String| files.iter().any(|path| path.ends_with(&digest["sha256:".len()..]));
        (0..digests.len()).filter(|nth| is_there(&digests[*nth])).collect()
    };
    let take = async |mirror: &Mirror, nth: usize| {
        let path = format!("/v2/org/app/blobs/{}", digests[nth]);
        assert_eq!(sha256(&mirror.client().get(&path).await.body), digests[nth]);
        quiet(mirror).await;
        mirror.advance(Duration::from_mins(10));
    };
    for nth in [0, 1, 2, 3, 0] {
        take(&mirror, nth).await;
    }
    let mirror = set_back(mirror).await;
    take(&mirror, 4).await;
    assert_eq!(kept(&mirror), [0, 2, 3, 4], "the oldest went");
    take(&mirror, 2).await;
    take(&mirror, 5).await;
    assert_eq!(kept(&mirror), [0, 2, 4, 5], "a use counts as ever");
    let mirror = mirror.restart().await;
    take(&mirror, 6).await;
    assert_eq!(kept(&mirror), [0, 2, 5, 6], "in the next life, too");
}

#[tokio::test]
async fn what_was_verified_before_the_clock_was_set_back_is_verified_anew() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::builder(one(&upstream));
    let mirror = mirror.storage("verify_every = \"1day\"\nverify_rate = \"unlimited\"").start().await;
    mirror.pull_whole("org/app", "1").await;
    let note = mirror.storage().join("VERIFY");
    let is_over = async || std::fs::read_to_string(&note).is_ok_and(|note| note.contains(r#""shard":512"#));
    eventually("the first pass is over", is_over).await;
    let path = super::verify::rot(&mirror.storage(), &app.layers()[1].digest);
    let _mirror = set_back(mirror).await;
    eventually("it is found", async || !path.exists()).await;
}
