//! Manifests and tokens do not queue behind layers.

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const LIMIT: usize = 2;

/// Downloads that have begun and hang, as many as there may be.
async fn hanging_downloads(upstream: &Upstream, mirror: &Mirror, gate: &Gate) -> Vec<tokio::task::JoinHandle<u16>> {
    let digests: Vec<_> = (0..LIMIT).map(|n| upstream.blob("org/large", blob(1_000_000, 10 + n as u64))).collect();
    upstream.script(blobs().repository("org/large").get().always().stall_after(100_000, gate));
    let pulls = digests.into_iter().map(|digest| {
        let client = mirror.client();
        tokio::spawn(async move { client.get(&blob_path("org/large", &digest)).await.status })
    });
    let pulls = pulls.collect();
    gate.arrived_times(LIMIT).await;
    pulls
}

#[tokio::test]
async fn t33_a_manifest_and_a_token_are_answered_while_every_download_hangs() {
    let ca = TestCa::new();
    let directory = tempfile::tempdir().unwrap();
    ca.write_pem(&directory.path().join("ca.pem"));
    for tls in [false, true] {
        let upstream = if tls { Upstream::tls(&ca).await } else { Upstream::start().await };
        publish_app(&upstream);
        upstream.token_auth(&TokenAuth::new());
        let ca_line =
            if tls { format!("ca = \"{}\"\n", directory.path().join("ca.pem").display()) } else { String::new() };
        let mirror = Mirror::start(hub(upstream.url(), &format!("max_connections = {LIMIT}\n{ca_line}"))).await;
        let gate = Gate::closed();
        let pulls = hanging_downloads(&upstream, &mirror, &gate).await;
        assert_eq!(mirror.client().get(APP).await.status, 200);
        let at = |matcher: Matcher| -> Vec<usize> {
            upstream.requests_of(&matcher).iter().map(|request| request.at_connection).collect()
        };
        let (layers, manifests) = (at(blobs()), at(manifests()));
        assert!(manifests.iter().all(|connection| !layers.contains(connection)), "{manifests:?} {layers:?}");
        gate.open();
        for pull in pulls {
            assert_eq!(pull.await.unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn no_more_than_max_connections_downloads_run_at_one_time() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::start(hub(upstream.url(), &format!("max_connections = {LIMIT}"))).await;
    let gate = Gate::closed();
    let pulls = hanging_downloads(&upstream, &mirror, &gate).await;
    let next = upstream.blob("org/next", blob(1000, 1));
    let (client, path) = (mirror.client(), blob_path("org/next", &next));
    let waiting = tokio::spawn(async move { client.get(&path).await.status });
    // A HEAD takes no place, and has come and gone behind the one that waits.
    assert_eq!(
        mirror.client().head(&blob_path("org/large", &upstream.blob("org/large", blob(9, 9)))).await.status,
        200
    );
    assert_eq!(upstream.gets_of(&next), 0);
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
    assert_eq!(waiting.await.unwrap(), 200);
}

#[tokio::test]
async fn a_full_queue_of_downloads_is_a_504_and_does_not_open_the_breaker() {
    let upstream = Upstream::start().await;
    publish_app(&upstream);
    let lines = format!("max_connections = {LIMIT}\nresponse_timeout = \"600ms\"");
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    let gate = Gate::closed();
    let pulls = hanging_downloads(&upstream, &mirror, &gate).await;
    let next = upstream.blob("org/next", blob(1000, 1));
    let answer = mirror.client().get(&blob_path("org/next", &next)).await;
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("a limit of this mirror: `max_connections`"), "{}", answer.text());
    assert_eq!(mirror.client().get(APP).await.status, 200);
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
    assert_eq!(mirror.client().get(&blob_path("org/next", &next)).await.status, 200);
}

#[tokio::test]
async fn layers_come_by_http_1_and_manifests_by_http_2_where_it_is_offered() {
    let ca = TestCa::new();
    let directory = tempfile::tempdir().unwrap();
    ca.write_pem(&directory.path().join("ca.pem"));
    let upstream = Upstream::tls(&ca).await;
    let app = publish_app(&upstream);
    let lines = format!("ca = \"{}\"", directory.path().join("ca.pem").display());
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200);
    let versions = |matcher: Matcher| upstream.requests_of(&matcher)[0].version;
    assert_eq!(versions(manifests().get()), http::Version::HTTP_2);
    assert_eq!(versions(blobs()), http::Version::HTTP_11);
}
