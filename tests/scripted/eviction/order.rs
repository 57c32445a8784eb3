//! The order in which blobs are evicted.

use super::*;
use crate::support::image::image;

const SMALL: &str = "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

#[tokio::test]
async fn what_was_used_last_stays_longest() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..5);
    let mirror = bounded(&upstream, SMALL).start().await;
    pull_all(&mirror, &digests[..4]).await;
    assert_eq!(mirror.client().get(&path_of(&digests[0])).await.status, 200);
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &digests[4..]).await;
    assert_eq!(kept(&mirror, &digests), [0, 2, 3, 4]);
}

#[tokio::test]
async fn a_scan_of_what_is_used_once_does_not_push_out_what_is_used_often() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..2);
    let scanned = mebibytes(&upstream, 100..112);
    let mirror = bounded(&upstream, SMALL).start().await;
    for _day in 0..2 {
        pull_all(&mirror, &digests).await;
    }
    pull_all(&mirror, &scanned).await;
    assert_eq!(kept(&mirror, &digests), [0, 1]);
    assert_eq!(kept(&mirror, &scanned), [10, 11]);
}

#[tokio::test]
async fn what_was_used_before_a_restart_counts_after_it() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..5);
    let mirror = bounded(&upstream, SMALL).start().await;
    pull_all(&mirror, &digests[..4]).await;
    assert_eq!(mirror.client().get(&path_of(&digests[0])).await.status, 200);
    let mirror = mirror.restart().await;
    mirror.advance(Duration::from_mins(10));
    pull_all(&mirror, &digests[4..]).await;
    assert_eq!(kept(&mirror, &digests), [0, 2, 3, 4]);
}

#[tokio::test]
async fn a_layer_in_constant_use_is_never_fetched_twice_though_the_cache_turns_over_within_minutes() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..1);
    let scanned = mebibytes(&upstream, 100..140);
    let mirror = bounded(&upstream, SMALL).start().await;
    for other in &scanned {
        for digest in [&digests[0], other] {
            assert_eq!(mirror.client().get(&path_of(digest)).await.status, 200);
            quiet(&mirror).await;
            mirror.advance(Duration::from_millis(200));
        }
    }
    assert_eq!(upstream.gets_of(&digests[0]), 1);
}

#[tokio::test]
async fn a_layer_whose_manifest_is_in_constant_use_stays_while_the_cache_turns_over() {
    let upstream = Upstream::start().await;
    let image = image(&[blob(MIB, 1)]);
    upstream.publish("o/app", "1", &image);
    let scanned = mebibytes(&upstream, 100..120);
    let mirror = bounded(&upstream, SMALL).start().await;
    mirror.pull_whole("o/app", "1").await;
    for other in &scanned {
        assert_eq!(mirror.client().get("/v2/o/app/manifests/1").await.status, 200);
        mirror.advance(Duration::from_millis(200));
        assert_eq!(mirror.client().get(&path_of(other)).await.status, 200);
        quiet(&mirror).await;
        mirror.advance(Duration::from_millis(200));
    }
    let path = format!("/v2/o/app/blobs/{}", image.layers()[0].digest);
    assert_eq!(mirror.client().head(&path).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn what_somebody_is_reading_goes_last() {
    let upstream = Upstream::start().await;
    let slow = upstream.blob(APP, blob(32 * MIB, 1));
    let digests = mebibytes(&upstream, 10..16);
    let marks = "max_size = \"36MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";
    let mirror = bounded(&upstream, marks).start().await;
    pull_all(&mirror, std::slice::from_ref(&slow)).await;
    let mut reader = mirror.client().open(http::Method::GET, &path_of(&slow), &[]).await.unwrap();
    let _first = reader.chunk().await.unwrap().unwrap();
    mirror.advance(Duration::from_hours(1));
    pull_all(&mirror, &digests).await;
    assert!(has_file(&mirror, &slow), "its space would not come back");
    assert_eq!(kept(&mirror, &digests), [2, 3, 4, 5], "others have gone in its place");
    drop(reader);
}
