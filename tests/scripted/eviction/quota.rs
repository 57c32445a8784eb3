//! `max_size`, `min_free` and the marks.

use roadstead::cache::scrub;

use super::*;
use crate::support::mirror::files_below;

#[tokio::test]
async fn what_was_not_used_for_longest_makes_room_for_a_pull() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..6);
    let mirror = bounded(&upstream, "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"").start().await;
    pull_all(&mirror, &digests).await;
    assert_eq!(kept(&mirror, &digests), [2, 3, 4, 5]);
    assert_eq!(evicted(&mirror, "space"), 2);
    assert_eq!(counted(&mirror, "roadstead_uncached_streams_total{authority=\"docker.io\"}"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_is_never_exceeded_while_twenty_clients_pull_more_than_fits() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..60);
    let mirror = bounded(&upstream, "max_size = \"12MiB\"").start().await;
    let clients = (0..20).map(|client| {
        let (http, digests) = (mirror.client(), digests.clone());
        tokio::spawn(async move {
            for nth in 0..6 {
                let digest = &digests[(client * 7 + nth * 11) % digests.len()];
                let answer = http.get(&path_of(digest)).await;
                assert!(answer.status == 200 && sha256(&answer.body) == *digest);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut most = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        most = most.max(bytes_on_disk(&mirror.storage()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(most > 4 * MIB && most <= 12 * MIB, "{most}");
    assert!(evicted(&mirror, "space") > 0);
}

#[tokio::test]
async fn eviction_starts_above_the_high_mark_and_stops_at_the_low_one() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..9);
    let marks = "max_size = \"10MiB\"\nhigh_mark = \"80%\"\nlow_mark = \"50%\"";
    let mirror = bounded(&upstream, marks).start().await;
    pull_all(&mirror, &digests[..8]).await;
    assert_eq!((kept(&mirror, &digests).len(), evicted(&mirror, "space")), (8, 0));
    pull_all(&mirror, &digests[8..]).await;
    eventually("the low mark is reached", async || kept(&mirror, &digests) == [4, 5, 6, 7, 8]).await;
    eventually("it is counted", async || (used(&mirror), evicted(&mirror, "space")) == (5 * MIB, 4)).await;
}

#[tokio::test]
async fn nothing_is_evicted_for_what_cannot_fit_at_all() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..3);
    let large = upstream.blob(APP, blob(8 * MIB, 99));
    let mirror = bounded(&upstream, "max_size = \"4MiB\"").start().await;
    pull_all(&mirror, &digests).await;
    assert_eq!(sha256(&mirror.client().get(&path_of(&large)).await.body), large);
    assert_eq!(kept(&mirror, &digests), [0, 1, 2]);
    assert_eq!(counted(&mirror, "roadstead_reservations_refused_total{authority=\"docker.io\"}"), 1);
}

#[tokio::test]
async fn what_was_evicted_is_fetched_again_without_a_fuss() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..5);
    let mirror = bounded(&upstream, "max_size = \"3MiB\"").start().await;
    pull_all(&mirror, &digests).await;
    assert!(!has_file(&mirror, &digests[0]));
    upstream.forget_requests();
    let again = mirror.client().get(&path_of(&digests[0])).await;
    assert_eq!((again.status, sha256(&again.body)), (200, digests[0].clone()));
    assert_eq!(upstream.gets_of(&digests[0]), 1);
    stored(&mirror, &digests[0]).await;
}

#[tokio::test]
async fn a_reader_of_an_evicted_blob_finishes_and_its_bytes_count_until_then() {
    let upstream = Upstream::start().await;
    let content = blob(32 * MIB, 1);
    let slow = upstream.blob(APP, &content);
    let digests = mebibytes(&upstream, 10..20);
    let marks = "max_size = \"40MiB\"\nhigh_mark = \"90%\"\nlow_mark = \"10%\"";
    let mirror = bounded(&upstream, marks).start().await;
    mirror.client().get(&path_of(&slow)).await;
    stored(&mirror, &slow).await;
    let mut reader = mirror.client().open(http::Method::GET, &path_of(&slow), &[]).await.unwrap();
    let mut body = reader.chunk().await.unwrap().unwrap().to_vec();
    for digest in &digests[..5] {
        // The low mark is so low that a small one may go at once, before the one that is read.
        assert_eq!(mirror.client().get(&path_of(digest)).await.status, 200);
        quiet(&mirror).await;
        mirror.advance(Duration::from_mins(10));
    }
    eventually("it is evicted", async || !has_file(&mirror, &slow)).await;
    assert!(used(&mirror) >= 32 * MIB, "the disk does not have it back");
    while let Some(chunk) = reader.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    assert!(sha256(&body) == slow);
    pull_all(&mirror, &digests[5..]).await;
    assert!(used(&mirror) <= 14 * MIB, "what was read is given back");
}

#[tokio::test]
async fn what_is_in_quarantine_counts_over_restarts_and_goes_before_anything_else() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..5);
    let mirror = bounded(&upstream, "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"").start().await;
    pull_all(&mirror, &digests[..3]).await;
    let wrong = file_of(&mirror, &digests[1]);
    std::fs::write(&wrong, vec![7; 1024 * 1024]).unwrap();
    let report = scrub::verify(mirror.inner().cache(), None, &scrub::VerifyProgress::default()).await;
    assert!(report.wrong.len() == 1 && !wrong.exists(), "{report:?}");
    let quarantined = |mirror: &Mirror| files_below(&mirror.storage().join("quarantine")).len();
    assert_eq!((quarantined(&mirror), used(&mirror)), (1, 3 * MIB));
    let mirror = mirror.restart().await;
    assert_eq!((quarantined(&mirror), used(&mirror)), (1, 3 * MIB));
    pull_all(&mirror, &digests[3..4]).await;
    assert_eq!((quarantined(&mirror), used(&mirror)), (1, 4 * MIB), "it fits beside");
    pull_all(&mirror, &digests[4..]).await;
    assert_eq!((quarantined(&mirror), used(&mirror), evicted(&mirror, "space")), (0, 4 * MIB, 0));
    assert_eq!(kept(&mirror, &digests), [0, 2, 3, 4]);
}

/// Killed between a wrong file's move and the end of its row.
#[tokio::test]
async fn what_a_crash_left_in_quarantine_is_counted_once() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..2);
    let mirror = bounded(&upstream, "max_size = \"4MiB\"").start().await;
    pull_all(&mirror, &digests).await;
    let path = file_of(&mirror, &digests[0]);
    let stopped = mirror.stop().await;
    let quarantine = stopped.storage().join("quarantine");
    std::fs::create_dir(&quarantine).unwrap();
    let name = format!("9999999999999-{}", digests[0].replace(':', "-"));
    std::fs::rename(path, quarantine.join(name)).unwrap();
    let mirror = stopped.start().await;
    assert_eq!((used(&mirror), mirror.inner().cache().counts().await.unwrap().stored_bytes), (2 * MIB, MIB));
}
