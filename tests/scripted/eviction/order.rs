//! The order in which blobs are evicted.

use super::*;

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
