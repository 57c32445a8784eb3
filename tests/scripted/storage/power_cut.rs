//! The power goes: what was not synced is gone, or half there.

use std::time::Duration;

use super::traffic::{Catalogue, nothing_is_leaked};
use crate::blobs::process::Process;
use crate::support::faulty_disk::*;

async fn survives(unsynced: impl Fn(u64) -> Unsynced, cuts: u64) {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::publish().await;
    catalogue.upstream.throttle(60 * 1024 * 1024);
    let mut disk = FaultyDisk::mount();
    let mut dice = Dice(cuts);
    for cut in 0..cuts {
        let storage = disk.path().join("data");
        let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
        let mut load = catalogue.load(&process.client(), 4, 1000 + cut);
        tokio::time::sleep(Duration::from_millis(5 + dice.below(600))).await;
        let next = disk.cut(unsynced(cut));
        process.kill();
        load.shutdown().await;
        disk = next;
        // Whatever is under a digest was synced before it got there.
        super::stored_right(&disk.path().join("data"));
    }
    let storage = disk.path().join("data");
    let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
    catalogue.all_is_served(&process.client()).await;
    nothing_is_leaked(&process, &storage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_leaves_every_blob_whole_or_absent() {
    survives(|_| Unsynced::Lost, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_that_leaves_half_of_what_was_not_synced_does_no_harm() {
    survives(Unsynced::Random, 8).await;
}

/// A blob that the index has durably is served after the cut, with the upstream away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_a_second_before_a_power_cut_is_served_offline() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::publish().await;
    let disk = FaultyDisk::mount();
    let storage = disk.path().join("data");
    let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
    catalogue.all_is_served(&process.client()).await;
    // The partial names go when the index has everything durably.
    super::eventually("all is durable", async || {
        process.metric(r#"roadstead_fills_running{authority="docker.io"}"#).await == 0.0
            && disk.files("/partial/").is_empty()
    })
    .await;
    let cut = disk.cut(Unsynced::Lost);
    process.kill();
    drop(disk);
    let storage = cut.path().join("data");
    let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
    catalogue.all_is_served_offline(&process.client()).await;
    nothing_is_leaked(&process, &storage).await;
}
