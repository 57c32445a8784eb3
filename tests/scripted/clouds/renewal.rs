//! A login of a cloud is fetched by one, renewed in time, and fetched anew when it is refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::aws::{Aws, REGISTRY, accepts};
use super::{blob_path, ready};
use crate::support::eventually;
use crate::support::image::image;
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const TAG: &str = "/v2/team/app/manifests/1";
const HOUR: Duration = Duration::from_hours(1);

async fn started() -> (Aws, Upstream, Mirror, String) {
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    accepts(&upstream, 1);
    let digest = upstream.blob("team/app", blob(1000, 1));
    let mirror = aws.mirror(&upstream).start().await;
    (aws, upstream, mirror, blob_path("team/app", &digest))
}

/// The trouble's value in the metrics.
fn gauge(mirror: &Mirror) -> f64 {
    mirror.metric(&format!(
        "roadstead_upstream_trouble{{authority=\"{REGISTRY}\",endpoint=\"{REGISTRY}\",trouble=\"no_identity\"}}"
    ))
}

#[tokio::test]
async fn t152_a_login_is_fetched_once_for_all_who_ask_and_by_none_of_them() {
    let (aws, upstream, mirror, _) = started().await;
    let gate = Gate::closed();
    aws.server.hold(&gate);
    let mirror = Arc::new(mirror);
    let paths: Vec<String> = (0..12)
        .map(|nth| {
            let repository = format!("team/app{nth}");
            blob_path(&repository, &upstream.blob(&repository, blob(1000, 1)))
        })
        .collect();
    let ask = |path: &String| {
        let (mirror, path) = (Arc::clone(&mirror), path.clone());
        tokio::spawn(async move { mirror.client().head(&path).await.status })
    };
    let leaves = ask(&paths[0]);
    gate.arrived().await;
    leaves.abort();
    let asking: Vec<_> = paths[1..].iter().map(ask).collect();
    mirror.wait_for_requests_in_flight(11).await;
    gate.open();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!((aws.given(), aws.asked_for_tokens()), (1, 1));
}

#[tokio::test]
async fn t152_a_login_is_renewed_before_it_ends_and_nobody_waits_for_that() {
    let (aws, upstream, mirror, path) = started().await;
    upstream.basic_auth(BasicAuth::new().user("AWS", "MARKER-password-1").user("AWS", "MARKER-password-2"));
    assert_eq!(mirror.client().head(&path).await.status, 200);
    mirror.advance(8 * HOUR);
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!(aws.asked_for_tokens(), 1, "it is good for long yet");
    let gate = Gate::closed();
    aws.server.hold(&gate);
    mirror.advance(3 * HOUR);
    for _pull in 0..5 {
        assert_eq!(mirror.client().head(&path).await.status, 200);
    }
    gate.arrived().await;
    assert_eq!(aws.asked_for_tokens(), 2, "one renewal");
    gate.open();
    let shown = STANDARD.encode("AWS:MARKER-password-2");
    eventually("the new login is used", async || {
        assert_eq!(mirror.client().head(&path).await.status, 200);
        upstream.requests().last().unwrap().header("authorization") == Some(&*format!("Basic {shown}"))
    })
    .await;
    assert_eq!(aws.asked_for_tokens(), 2);
}

#[tokio::test]
async fn t152_an_old_login_is_used_until_it_ends_if_there_is_no_new_one() {
    let log = Log::begin();
    let (aws, upstream, mirror, path) = started().await;
    upstream.publish("team/app", "1", &image(&[blob(1000, 2)]));
    mirror.pull_whole("team/app", "1").await;
    aws.fail(503);
    mirror.advance(11 * HOUR);
    assert_eq!(mirror.client().head(&path).await.status, 200);
    eventually("the failure is told", async || ready(&mirror).await.contains("cannot be signed in to")).await;
    mirror.advance(HOUR / 2);
    assert_eq!(mirror.client().head(&path).await.status, 200);
    // It has ended.
    mirror.advance(HOUR);
    let stale = mirror.client().get(TAG).await;
    assert_eq!((stale.status, stale.header("warning").is_empty()), (200, false), "{}", stale.text());
    let lacking = mirror.client().head(&path).await;
    assert_eq!(lacking.status, 502);
    assert_eq!(gauge(&mirror), 1.0);
    let warnings =
        || log.text().lines().filter(|line| line.contains("WARN") && line.contains("signed in to as")).count();
    assert_eq!(warnings(), 1, "{}", log.text());
    aws.fail(0);
    accepts(&upstream, 2);
    mirror.advance(Duration::from_secs(11));
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!((ready(&mirror).await.as_str(), gauge(&mirror), warnings()), ("ready\n", 0.0, 1));
}

#[tokio::test]
async fn t152_a_cloud_that_fails_is_left_alone_for_a_moment() {
    let (aws, _upstream, mirror, path) = started().await;
    aws.fail(403);
    for _pull in 0..5 {
        assert_eq!(mirror.client().get(&path).await.status, 502);
    }
    assert_eq!(aws.asked_for_tokens(), 1);
    // A failure of the server may be one of a moment: it is asked once more.
    aws.fail(503);
    mirror.advance(Duration::from_secs(11));
    for _pull in 0..5 {
        assert_eq!(mirror.client().get(&path).await.status, 502);
    }
    assert_eq!(aws.asked_for_tokens(), 3);
}

#[tokio::test]
async fn a_login_that_is_refused_is_fetched_anew_once() {
    let (aws, upstream, mirror, path) = started().await;
    assert_eq!(mirror.client().head(&path).await.status, 200);
    mirror.advance(Duration::from_mins(5));
    accepts(&upstream, 2);
    assert_eq!(mirror.client().get(&path).await.status, 200, "by the same request");
    assert_eq!(aws.given(), 2);
    // Nothing that is fetched helps: it is not fetched on and on.
    mirror.advance(Duration::from_mins(5));
    accepts(&upstream, 99);
    let other = blob_path("team/app", &upstream.blob("team/app", blob(2000, 3)));
    for _pull in 0..5 {
        assert_eq!(mirror.client().get(&other).await.status, 403);
    }
    assert_eq!(aws.given(), 3);
    assert!(ready(&mirror).await.contains("refuses the credentials in"), "{}", ready(&mirror).await);
    accepts(&upstream, 4);
    mirror.advance(Duration::from_mins(2));
    assert_eq!(mirror.client().get(&other).await.status, 200);
    assert_eq!(ready(&mirror).await, "ready\n");
}
