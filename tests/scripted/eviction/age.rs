//! `unused_for`.

use super::*;

const PRESS: &str = "max_size = \"100MiB\"\nhigh_mark = \"2%\"\nlow_mark = \"1%\"";

/// With marks that low, each pull makes the mirror look at once.
#[tokio::test]
async fn what_nobody_has_used_for_long_goes_whatever_space_there_is() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..4);
    let mirror =
        bounded(&upstream, "unused_for = \"30days\"\nmax_size = \"4MiB\"\nhigh_mark = \"75%\"\nlow_mark = \"74%\"");
    let mirror = mirror.start().await;
    pull_all(&mirror, &digests[..2]).await;
    mirror.advance(Duration::from_hours(24 * 20));
    assert!(is_stored(&mirror.client(), &digests[1]).await, "used once more");
    mirror.advance(Duration::from_hours(24 * 20));
    pull_all(&mirror, &digests[2..3]).await;
    assert_eq!((kept(&mirror, &digests), evicted(&mirror, "age")), (vec![0, 1, 2], 0), "nobody has looked yet");
    pull_all(&mirror, &digests[3..]).await;
    eventually("the first one has gone", async || kept(&mirror, &digests) == [1, 2, 3]).await;
    eventually("for its age", async || evicted(&mirror, "age") == 1).await;
    assert_eq!(evicted(&mirror, "space"), 0);
}

#[tokio::test]
async fn without_unused_for_nothing_goes_for_its_age() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..4);
    let mirror = bounded(&upstream, PRESS).start().await;
    pull_all(&mirror, &digests[..1]).await;
    mirror.advance(Duration::from_hours(24 * 1000));
    pull_all(&mirror, &digests[1..2]).await;
    assert_eq!((kept(&mirror, &digests), evicted(&mirror, "age")), (vec![0, 1], 0));
}
