//! What the mirror does now, the slowest answers and the last failures.

use std::time::{Duration, Instant};

use super::{Site, api};
use crate::support::eventually;
use crate::support::mirror::{Mirror, quiet};
use crate::support::upstream::*;

#[tokio::test]
async fn traffic_is_told_for_each_upstream_and_together() {
    let site = Site::start().await;
    for _hit in 0..8 {
        assert_eq!(site.mirror.client().get("/v2/org/app/manifests/amd64").await.status, 200);
    }
    let (status, told) = api(&site.mirror, "activity").await;
    assert_eq!((status, &told["filling_total"], &told["answering"]), (200, &0.into(), &0.into()), "{told}");
    let hub = &told["upstreams"][0];
    assert_eq!(
        (&hub["upstream"], &hub["offline"], &hub["ration_left"]),
        (&"docker.io".into(), &false.into(), &().into())
    );
    assert_eq!(hub["endpoints"][0]["endpoint"], site.registry.host());
    assert_eq!(
        (&hub["endpoints"][0]["asks_blobs"], &hub["endpoints"][0]["asks_manifests"]),
        (&true.into(), &true.into())
    );
    let count = |key: &str| told["total"][key].as_u64().unwrap();
    assert_eq!(hub["hits"], count("hits"), "there is one upstream");
    assert!(count("hits") >= 8 && count("misses") >= 3, "{told}");
    assert_eq!(count("saved_bytes"), count("served_bytes").saturating_sub(count("received_bytes")));
    let ratio = told["total"]["hit_ratio"].as_f64().unwrap();
    let all = count("hits") + count("misses") + count("joined") + count("stale");
    assert!((ratio - (count("hits") + count("stale")) as f64 / all as f64).abs() < 1e-9, "{told}");
    let before = site.mirror.metric("roadstead_rate_limit_remaining{authority=\"docker.io\"}");
    assert!(before == 0.0, "looking makes no metric");
}

#[tokio::test]
async fn a_download_that_runs_is_told_with_what_has_come() {
    let upstream = Upstream::start().await;
    let content = blob(1_000_000, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let (client, path) = (mirror.client(), format!("/v2/library/app/blobs/{digest}"));
    let pull = tokio::spawn(async move { client.get(&path).await });
    gate.arrived().await;
    eventually("its bytes are told", async || {
        let (_, told) = api(&mirror, "activity").await;
        let fill = &told["filling"][0];
        fill["received_bytes"] == 300_000 && fill["size_bytes"] == 1_000_000 && fill["repository"] == "library/app"
    })
    .await;
    let (_, told) = api(&mirror, "activity").await;
    let fill = &told["filling"][0];
    assert_eq!((&told["filling_total"], &told["answering"]), (&1.into(), &1.into()));
    assert_eq!((&fill["digest"], &fill["waiting"], &fill["asked"]), (&digest.into(), &false.into(), &true.into()));
    gate.open();
    assert_eq!(pull.await.unwrap().status, 200);
    quiet(&mirror).await;
    assert_eq!(api(&mirror, "activity").await.1["filling_total"], 0);
}

#[tokio::test]
async fn a_failure_is_told_with_what_to_do() {
    let upstream = Upstream::start().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nbreaker_window = \"0s\"\n", upstream.url());
    let mirror = Mirror::start(toml).await;
    upstream.stop().await;
    for _ask in 0..3 {
        assert_eq!(mirror.client().get("/v2/library/app/manifests/1").await.status, 502);
    }
    let (_, told) = api(&mirror, "activity").await;
    let failed = told["failed"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["count"], &failed[0]["status"]), (1, &3.into(), &502.into()), "{told}");
    assert_eq!((&failed[0]["repository"], &failed[0]["reference"]), (&"library/app".into(), &"1".into()));
    assert!(failed[0]["error"].as_str().unwrap().contains("cannot be reached"), "{told}");
    assert!(failed[0]["remedy"].as_str().unwrap().starts_with("check network, DNS and proxy"), "{told}");
    assert_eq!(mirror.client().get("/v2/").await.status, 200);
    assert_eq!(api(&mirror, "activity").await.1["failed"].as_array().unwrap().len(), 1, "only failures are");
}

#[tokio::test]
async fn an_answer_that_took_long_is_told_with_where_the_time_went() {
    let site = Site::start().await;
    assert_eq!(api(&site.mirror, "activity").await.1["slow"].as_array().unwrap().len(), 0);
    let gate = Gate::closed();
    site.registry.script(manifests().get().once().stall_before_headers(&gate));
    let client = site.mirror.client();
    let path = format!("/v2/org/app/manifests/{}", site.arm64.digest);
    let pull = tokio::spawn(async move { client.get(&path).await });
    gate.arrived().await;
    let began = Instant::now();
    eventually("it is slow", async || began.elapsed() > Duration::from_millis(1100)).await;
    gate.open();
    assert_eq!(pull.await.unwrap().status, 200);
    let (_, told) = api(&site.mirror, "activity").await;
    let slow = told["slow"].as_array().unwrap();
    assert_eq!((slow.len(), &slow[0]["kind"], &slow[0]["outcome"]), (1, &"manifest".into(), &"fill".into()), "{told}");
    assert_eq!((&slow[0]["repository"], &slow[0]["reference"]), (&"org/app".into(), &site.arm64.digest.clone().into()));
    assert!(slow[0]["ms"].as_u64() > Some(1000) && slow[0]["first_byte_ms"].as_u64() > Some(1000), "{told}");
}
