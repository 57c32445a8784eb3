//! A dead or rationing upstream costs one wait, or one request, per window.

use std::time::Duration;

use super::{APP, blob_path, hub, publish_app};
use crate::support::eventually;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const OPEN: &str = "is not asked for now";

fn gauge(mirror: &Mirror, upstream: &Upstream, lane: &str) -> f64 {
    let host = upstream.host();
    mirror.metric(&format!("roadstead_breaker_open{{authority=\"docker.io\",endpoint=\"{host}\",lane=\"{lane}\"}}"))
}

#[tokio::test]
async fn a_connection_failure_opens_the_breaker_and_a_probe_closes_it() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    upstream.stop().await;
    let first = mirror.client().get(APP).await;
    assert_eq!(first.status, 502);
    assert!(first.text().contains("cannot be reached"), "{}", first.text());
    let layer = blob_path("library/app", &app.layers()[0].digest);
    upstream.restart().await;
    for path in [APP, &layer] {
        let at_once = mirror.client().get(path).await;
        assert_eq!(at_once.status, 502, "both lanes are shut");
        assert!(at_once.text().contains(OPEN), "{}", at_once.text());
        assert_eq!(
            at_once.header("retry-after").parse::<u64>().unwrap().clamp(1, 10).to_string(),
            at_once.header("retry-after")
        );
    }
    assert_eq!((upstream.requests().len(), gauge(&mirror, &upstream, "manifests")), (0, 1.0));
    mirror.advance(Duration::from_secs(10));
    for path in [APP, &layer] {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
    assert_eq!((gauge(&mirror, &upstream, "manifests"), gauge(&mirror, &upstream, "blobs")), (0.0, 0.0));
}

#[tokio::test]
async fn one_request_probes_and_others_for_manifests_are_answered_at_once() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    upstream.stop().await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    upstream.restart().await;
    mirror.advance(Duration::from_secs(10));
    let gate = Gate::closed();
    upstream.script(manifests().get().once().stall_before_headers(&gate));
    let client = mirror.client();
    let probe = tokio::spawn(async move { client.get(APP).await.status });
    gate.arrived().await;
    let other = mirror.client().get("/v2/library/other/manifests/1").await;
    assert_eq!((other.status, other.header("retry-after")), (502, "1"));
    assert_eq!(upstream.requests().len(), 1);
    gate.open();
    assert_eq!(probe.await.unwrap(), 200);
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

/// Clients ask for all layers at once, and give a pull up when one of them is refused.
#[tokio::test]
async fn after_an_outage_layers_asked_for_at_once_wait_for_the_one_that_probes() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let digests: Vec<_> = (0..4).map(|seed| upstream.blob("org/app", blob(1000, seed))).collect();
    upstream.stop().await;
    assert_eq!(mirror.client().head(&blob_path("org/app", &digests[0])).await.status, 502);
    upstream.restart().await;
    mirror.advance(Duration::from_secs(10));
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_before_headers(&gate));
    let pulls: Vec<_> = digests
        .iter()
        .map(|digest| {
            let (client, path) = (mirror.client(), blob_path("org/app", digest));
            tokio::spawn(async move { client.get(&path).await.status })
        })
        .collect();
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(4).await;
    assert_eq!(upstream.requests().len(), 1, "one probes");
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
}

/// A manifest that is served says that its registry is back, for its layers too.
#[tokio::test]
async fn after_an_outage_a_manifest_that_is_served_opens_the_way_to_its_layers() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    upstream.stop().await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    upstream.restart().await;
    mirror.advance(Duration::from_secs(10));
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert_eq!((gauge(&mirror, &upstream, "manifests"), gauge(&mirror, &upstream, "blobs")), (0.0, 0.0));
    let gate = Gate::closed();
    upstream.script(blobs().get().always().stall_before_headers(&gate));
    let pulls: Vec<_> = app
        .layers()
        .iter()
        .map(|layer| {
            let (client, path) = (mirror.client(), blob_path("library/app", &layer.digest));
            tokio::spawn(async move { client.get(&path).await.status })
        })
        .collect();
    gate.arrived_times(pulls.len()).await;
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_probe_that_fails_opens_the_breaker_again() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    publish_app(&upstream);
    upstream.stop().await;
    assert_eq!(mirror.client().get(APP).await.status, 502);
    mirror.advance(Duration::from_secs(10));
    assert!(mirror.client().get(APP).await.text().contains("cannot be reached"));
    assert!(mirror.client().get(APP).await.text().contains(OPEN));
}

#[tokio::test]
async fn a_client_that_leaves_a_probe_lets_the_next_request_probe() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let digest = upstream.blob("org/app", blob(1000, 1));
    let path = blob_path("org/app", &digest);
    upstream.stop().await;
    assert_eq!(mirror.client().head(&path).await.status, 502);
    upstream.restart().await;
    mirror.advance(Duration::from_secs(10));
    let gate = Gate::closed();
    upstream.script(blobs().head().once().stall_before_headers(&gate));
    let (client, probing) = (mirror.client(), path.clone());
    let probe = tokio::spawn(async move { client.head(&probing).await.status });
    gate.arrived().await;
    probe.abort();
    // The connection that the probe was on ends with it.
    upstream.wait_for_open_connections(0).await;
    assert_eq!(mirror.client().head(&path).await.status, 200);
}

#[tokio::test]
async fn t28_a_hundred_clients_of_a_rationing_upstream_cost_one_request_per_window() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    upstream.script(manifests().always().too_many_requests("60"));
    let client = mirror.client();
    for window in 1..=2 {
        let pulls: Vec<_> = (0..100)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get(APP).await })
            })
            .collect();
        for pull in pulls {
            let answer = pull.await.unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (429, "TOOMANYREQUESTS"));
            assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
        }
        assert_eq!(upstream.requests_of(&manifests()).len(), window);
        let layer = blob_path("library/app", &app.layers()[0].digest);
        assert_eq!(mirror.client().get(&layer).await.status, 200, "blobs are not rationed");
        mirror.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn t28_a_copy_that_is_held_is_served_stale_while_upstream_rations() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    upstream.forget_requests();
    upstream.script(manifests().always().too_many_requests("3600"));
    mirror.advance(Duration::from_mins(2));
    for _ in 0..3 {
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("warning").starts_with("299"), "{:?}", answer.headers);
        mirror.advance(Duration::from_secs(1000));
    }
    assert_eq!(upstream.requests().len(), 1, "not before Retry-After has passed");
}

#[tokio::test]
async fn a_download_outlives_an_outage_and_the_breaker_that_it_opened() {
    let upstream = Upstream::start().await;
    let content = blob(1_000_000, 1);
    let digest = upstream.blob("org/app", &content);
    // Longer than all of a download's own pauses together.
    let mirror = Mirror::start(hub(upstream.url(), "breaker_window = \"7s\"")).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let (client, path) = (mirror.client(), blob_path("org/app", &digest));
    let pull = tokio::spawn(async move { client.try_get(&path).await });
    gate.arrived().await;
    upstream.stop().await;
    eventually("the breaker opens", async || {
        assert!(!pull.is_finished(), "cut at once");
        gauge(&mirror, &upstream, "blobs") >= 1.0
    })
    .await;
    upstream.restart().await;
    let answer = pull.await.unwrap().expect("the download goes on");
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let date = std::time::UNIX_EPOCH + Duration::from_millis(mirror.clock.now().as_millis()) + Duration::from_mins(30);
    upstream.script(manifests().always().too_many_requests(&httpdate::fmt_http_date(date)));
    let answer = mirror.client().get(APP).await;
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1700..=1800).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_retry_after_that_cannot_be_meant_shuts_nothing_off_for_hours() {
    let now = Duration::from_millis(roadstead::clock::Clock::default().now().as_millis());
    let date = |from_now: i64| {
        let at = now.as_secs().saturating_add_signed(from_now);
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(at))
    };
    let ahead = 2 * 60 * 60;
    for (name, retry_after, its_date) in [
        ("Unix seconds", (now.as_secs() + 30).to_string(), None),
        ("Unix milliseconds", (now.as_millis() + 30_000).to_string(), None),
        ("Unix seconds by a clock that is ahead", (now.as_secs() + 7200 + 30).to_string(), Some(date(ahead))),
        ("a date by a clock that is ahead", date(ahead + 30), Some(date(ahead))),
        ("a date that has passed by a clock that is ahead", date(ahead - 10), Some(date(ahead))),
        ("days", "259200".to_owned(), None),
    ] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let step = manifests().once().too_many_requests(&retry_after);
        upstream.script(its_date.iter().fold(step, |step, date| step.header("date", date)));
        assert_eq!(mirror.client().get(APP).await.status, 429, "{name}");
        mirror.advance(Duration::from_secs(32));
        assert_eq!(mirror.client().get(APP).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_retry_after_shorter_than_the_window_is_asked_again_when_it_has_passed() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::start(hub(upstream.url(), "breaker_window = \"5m\"")).await;
    upstream.script(manifests().once().too_many_requests("20"));
    assert_eq!(mirror.client().get(APP).await.header("retry-after"), "20");
    mirror.advance(Duration::from_secs(15));
    assert_eq!(mirror.client().get(APP).await.status, 429);
    mirror.advance(Duration::from_secs(5));
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

#[tokio::test]
async fn a_held_tag_is_checked_within_the_hour_although_the_ration_was_to_last_for_five() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    mirror.advance(Duration::from_mins(1));
    upstream.script(manifests().head().once().too_many_requests("18000"));
    for _check_and_put_off in 0..2 {
        assert!(mirror.client().get(APP).await.header("warning").starts_with("299 - "));
    }
    mirror.advance(Duration::from_hours(1));
    assert_eq!(mirror.client().get(APP).await.header("warning"), "");
}

#[tokio::test]
async fn a_ration_of_hours_is_looked_at_once_an_hour() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let ration = upstream.script(manifests().always().too_many_requests("18000"));
    for hour in 1..=3 {
        for _herd in 0..3 {
            let answer = mirror.client().get(APP).await;
            assert_eq!(answer.status, 429);
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 60 * 60);
        }
        assert_eq!(upstream.requests().len(), hour);
        mirror.advance(Duration::from_hours(1));
    }
    ration.revoke();
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

#[tokio::test]
async fn answers_of_whatever_kind_keep_the_breaker_closed() {
    for status in [401, 403, 404, 500, 502, 503] {
        let upstream = Upstream::start().await;
        let digest = upstream.blob("org/app", blob(1000, 1));
        let mirror = Mirror::start(hub(upstream.url(), "negative_ttl = \"0s\"")).await;
        let step = upstream.script(blobs().always().status(status));
        assert!(mirror.client().get(&blob_path("org/app", &digest)).await.status >= 400);
        step.revoke();
        assert_eq!(mirror.client().get(&blob_path("org/app", &digest)).await.status, 200, "{status}");
    }
}
