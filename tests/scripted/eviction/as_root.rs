//! Eviction on a file system of the test's own, full, slow or failing: takes root and `/dev/fuse`.

use roadstead::file_blocks::in_blocks;

use super::undeletable::{FULL, known};
use super::*;
use crate::support::faulty_disk::{Fault, FaultyDisk, Op};
use crate::support::image;
use crate::support::mirror::files_below;
use crate::support::tmpfs::Tmpfs;

#[tokio::test]
async fn min_free_is_kept_by_evicting() {
    let disk = Tmpfs::mount("32m");
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..30);
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = bounded(&upstream, "min_free = \"12MiB\"").directory(storage).start().await;
    for digest in &digests {
        let answer = mirror.client().get(&path_of(digest)).await;
        assert_eq!(sha256(&answer.body), *digest);
        stored(&mirror, digest).await;
        mirror.advance(Duration::from_mins(10));
    }
    assert!(evicted(&mirror, "space") > 0 && has_file(&mirror, &digests[29]) && !has_file(&mirror, &digests[0]));
    assert_eq!(counted(&mirror, "roadstead_uncached_streams_total{authority=\"docker.io\"}"), 0);
}

/// A pull that waits for space gives up when it takes too long; the eviction goes on, and removes file and row.
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
    // A blob that found no space is not tried again at once.
    mirror.advance(Duration::from_secs(31));
    pull_all(&mirror, &digests[4..]).await;
    assert_eq!(kept(&mirror, &digests), [1, 2, 3, 4]);
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

/// Marks are not in the log: what the index had not yet synced when its disk failed is worked out anew.
#[tokio::test]
async fn what_was_pinned_just_before_the_index_failed_is_kept_once_it_works_again() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let app = image::image(&[blob(MIB, 1)]);
    upstream.publish(APP, "1", &app);
    let storage = format!("pins = [\"docker.io/{APP}\"]");
    let mirror = bounded(&upstream, &storage).directory(disk.directory()).start().await;
    mirror.pull_whole(APP, "1").await;
    disk.fails(Fault::on(Op::Sync).at("index.redb").always());
    let well = || counted(&mirror, r#"roadstead_storage_healthy{part="index"}"#);
    // Its file is synced when it has to grow.
    for seed in 1000..2000 {
        let other = upstream.blob("org/other", blob(10, seed));
        assert_eq!(mirror.client().get(&format!("/v2/org/other/blobs/{other}")).await.status, 200);
        if well() == 0 {
            break;
        }
    }
    assert_eq!(well(), 0, "it fails");
    disk.heals();
    eventually("it works again", async || well() == 1).await;
    let sizes = app.blobs.iter().map(|part| part.content.size()).chain([app.manifest.len() as u64]);
    let whole: u64 = sizes.map(in_blocks).sum();
    let is_pinned = async || mirror.inner().cache().pinned_bytes().await.unwrap_or(0) == whole;
    eventually("all of it is pinned", is_pinned).await;
}
