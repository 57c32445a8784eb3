//! A disk that takes its time to remove a file, or never does.

use super::*;
use crate::support::faulty_disk::{Fault, FaultyDisk, Op};
use crate::support::mirror::files_below;

use crate::support::log::Log;

const FULL: &str = "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

/// How many blobs the index knows, and the sum of their sizes.
async fn known(mirror: &Mirror) -> (u64, u64) {
    let counts = mirror.inner().cache().counts().await.unwrap();
    (counts.blobs, counts.stored_bytes)
}

/// Who waits for room leaves when it takes too long; what was begun for it is not left between a file and its row.
#[tokio::test]
async fn an_eviction_that_outlasts_the_pull_it_was_for_ends_in_good_order() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let digests = mebibytes(&upstream, 0..5);
    let mirror = bounded(&upstream, FULL).directory(disk.directory()).start().await;
    pull_all(&mirror, &digests[..4]).await;
    // A file is locked while one of its names is removed.
    eventually("each has one name", async || files_below(&mirror.storage().join("partial")).is_empty()).await;
    let gate = Gate::closed();
    disk.holds_removals("/blobs/", &gate);
    let last = mirror.client().get(&path_of(&digests[4])).await;
    assert!(sha256(&last.body) == digests[4] && gate.arrivals() == 1);
    assert_eq!(counted(&mirror, "roadstead_uncached_streams_total{authority=\"docker.io\"}"), 1, "it did not wait");
    assert_eq!((evicted(&mirror, "space"), known(&mirror).await), (0, (4, 4 * MIB)));
    gate.open();
    eventually("it is counted", async || (evicted(&mirror, "space"), used(&mirror)) == (1, 3 * MIB)).await;
    assert_eq!((kept(&mirror, &digests), known(&mirror).await), (vec![1, 2, 3], (3, 3 * MIB)));
    // What found no room is not tried again at once.
    mirror.advance(Duration::from_secs(31));
    pull_all(&mirror, &digests[4..]).await;
    assert_eq!(kept(&mirror, &digests), [1, 2, 3, 4]);
}

/// As many as one step takes, and the coldest.
#[tokio::test]
async fn files_that_cannot_be_removed_do_not_keep_the_others_from_going() {
    let log = Log::begin();
    let upstream = Upstream::start().await;
    let stuck: Vec<String> = (0..64).map(|seed| upstream.blob(APP, blob(MIB / 64, 100 + seed))).collect();
    let digests = mebibytes(&upstream, 0..6);
    let mirror = bounded(&upstream, FULL).start().await;
    pull_all(&mirror, &stuck).await;
    pull_all(&mirror, &digests[..3]).await;
    for digest in &stuck {
        // Not even root removes a directory as a file, and what is in it stays.
        let path = file_of(&mirror, digest);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("in the way")).unwrap();
    }
    pull_all(&mirror, &digests[3..]).await;
    assert_eq!(kept(&mirror, &digests), [3, 4, 5]);
    assert_eq!((evicted(&mirror, "space"), kept(&mirror, &stuck).len()), (3, 64));
    assert_eq!((used(&mirror), known(&mirror).await), (4 * MIB, (67, 4 * MIB)), "what stays is counted");
    assert_eq!(log.text().matches("cannot be evicted").count(), 1);
}

/// The index goes on naming what has gone until it can be written again.
#[tokio::test]
async fn what_has_gone_is_not_evicted_again_while_facts_cannot_be_written() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let digests = mebibytes(&upstream, 0..8);
    let mirror = bounded(&upstream, FULL).directory(disk.directory()).start().await;
    pull_all(&mirror, &digests[..4]).await;
    disk.fails(Fault::on(Op::Write).at("/facts/").always());
    let well = || counted(&mirror, r#"roadstead_storage_healthy{part="index"}"#);
    for digest in &digests[4..] {
        assert!(sha256(&mirror.client().get(&path_of(digest)).await.body) == *digest);
    }
    eventually("facts cannot be written", async || well() == 0).await;
    let gone = digests.iter().filter(|digest| !has_file(&mirror, digest)).count() as u64;
    assert!(evicted(&mirror, "space") <= 4 && gone >= 4, "{} of {gone}", evicted(&mirror, "space"));
    disk.heals();
    eventually("facts are written again", async || well() == 1).await;
    pull_all(&mirror, &digests[..4]).await;
    assert!(used(&mirror) <= 4 * MIB, "the limit holds: {}", used(&mirror));
}
