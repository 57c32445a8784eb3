//! Downloads at one time: bounded, fair between upstreams, and turned away at once where too many wait.

use super::{eventually, one, partial_files, path_in, path_of, quiet};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 1_000_000;

/// A mirror of `upstream` as `storm.test`, and of the same one as `other.test`, with room for so many downloads.
async fn mirror_of(upstream: &Upstream, fills: usize, waiting: usize) -> Mirror {
    let url = upstream.url();
    let toml = format!("[upstreams.\"storm.test\"]\nurl = \"{url}\"\n[upstreams.\"other.test\"]\nurl = \"{url}\"\n");
    let server = format!("max_fills = {fills}\nmax_waiting_fills = {waiting}");
    Mirror::builder(toml).server(&server).start().await
}

fn path_at(authority: &str, repository: &str, digest: &str) -> String {
    format!("{}?ns={authority}", path_in(repository, digest))
}

/// GETs of different blobs at one authority, each of which hangs upstream behind the gate.
fn storm(upstream: &Upstream, mirror: &Mirror, gate: &Gate, pulls: u64) -> Vec<tokio::task::JoinHandle<u16>> {
    upstream.script(blobs().repository("library/storm").get().always().stall_after(1000, gate));
    let digests: Vec<_> = (0..pulls).map(|seed| upstream.blob("library/storm", blob(SIZE, 100 + seed))).collect();
    let pulls = digests.into_iter().map(|digest| {
        let (client, path) = (mirror.client(), path_at("storm.test", "library/storm", &digest));
        tokio::spawn(async move { client.get(&path).await.status })
    });
    pulls.collect()
}

#[tokio::test]
async fn a_storm_at_one_upstream_does_not_keep_anothers_first_download_waiting() {
    let upstream = Upstream::start().await;
    let mirror = mirror_of(&upstream, 4, 100).await;
    let gate = Gate::closed();
    let pulls = storm(&upstream, &mirror, &gate, 10);
    gate.arrived_times(3).await;
    let digest = upstream.blob("library/app", blob(SIZE, 1));
    let answer = mirror.client().get(&path_at("other.test", "library/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, digest));
    assert_eq!(gate.arrivals(), 3, "the rest of the storm waits");
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_download_that_waits_has_no_file_open() {
    let upstream = Upstream::start().await;
    let mirror = mirror_of(&upstream, 1, 100).await;
    let gate = Gate::closed();
    let pulls = storm(&upstream, &mirror, &gate, 5);
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(5).await;
    let all_run_or_wait = || mirror.metric("roadstead_fills_running{authority=\"storm.test\"}") > 4.0;
    eventually("all have begun, or wait", async || all_run_or_wait()).await;
    eventually("the one that runs has its file", async || partial_files(&mirror).len() == 1).await;
    assert_eq!(upstream.count(http::Method::GET, Kind::Blob), 1);
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn where_too_many_wait_the_next_is_turned_away_at_once_and_hits_are_not() {
    let upstream = Upstream::start().await;
    let mirror = mirror_of(&upstream, 1, 2).await;
    let client = mirror.client();
    let held = upstream.blob("library/app", blob(SIZE, 1));
    assert_eq!(client.get(&path_at("other.test", "library/app", &held)).await.status, 200);
    let stored = || mirror.metric("roadstead_fills_running{authority=\"other.test\"}") < 1.0;
    eventually("it is stored", async || stored()).await;
    let gate = Gate::closed();
    let pulls = storm(&upstream, &mirror, &gate, 2);
    gate.arrived().await;
    let waiting = || mirror.metric("roadstead_fills_running{authority=\"storm.test\"}") > 1.0;
    eventually("one waits", async || waiting()).await;
    let digest = upstream.blob("library/storm", blob(SIZE, 2));
    let refused = client.get(&path_at("storm.test", "library/storm", &digest)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(refused.text().contains("max_waiting_fills"), "{}", refused.text());
    let hit = client.get(&path_at("other.test", "library/app", &held)).await;
    assert_eq!((hit.status, hit.header("cache-status")), (200, "roadstead; hit"));
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), 200);
    }
}

/// Each of them holds its connection for as long as its client reads.
#[tokio::test]
async fn slow_readers_of_what_is_passed_through_take_no_place_from_downloads() {
    let upstream = Upstream::start().await;
    let large = upstream.blob("library/app", blob(64 * SIZE, 3));
    let toml = one(&upstream, "max_connections = 1");
    let mirror = Mirror::builder(toml).storage("max_size = \"8MiB\"").start().await;
    let passing = super::open(&mirror.client(), &path_of(&large)).await;
    assert_eq!(passing.status(), 200);
    let small = upstream.blob("library/app", blob(SIZE, 4));
    let answer = mirror.client().get(&path_of(&small)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, small));
    drop(passing);
    quiet(&mirror).await;
}
