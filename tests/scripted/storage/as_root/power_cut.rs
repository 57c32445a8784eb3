//! The power goes: what was not synced is gone, or half there.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::blobs::process::Process;
use crate::storage::traffic::{Catalogue, nothing_is_leaked};
use crate::support::faulty_disk::*;

fn names(disk: &FaultyDisk, below: &str) -> BTreeSet<String> {
    let files = disk.files(below).into_iter();
    files.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Hex digests of what is stored and whose partial names are gone: they go when the index has it durably.
fn durable(disk: &FaultyDisk) -> BTreeSet<String> {
    // In this order: what is linked in between is not taken for durable.
    let stored = names(disk, "/blobs/sha256/");
    let partial = names(disk, "/partial/");
    stored.into_iter().filter(|hex| !partial.contains(&format!("sha256-{hex}"))).collect()
}

async fn survives(unsynced: impl Fn(u64) -> Unsynced, cuts: u64) {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::publish().await;
    catalogue.upstream.throttle(60 * 1024 * 1024);
    let mut disk = FaultyDisk::mount();
    let mut dice = Dice(cuts);
    let mut known = BTreeSet::new();
    for cut in 0..cuts {
        let storage = disk.path().join("data");
        let before = names(&disk, "/blobs/sha256/");
        let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
        let mut load = catalogue.load(&process.client(), 4, 1000 + cut);
        tokio::time::sleep(Duration::from_millis(5 + dice.below(600))).await;
        // A blob that was linked and not recorded before the last cut has its bytes, and no grants.
        known.extend(durable(&disk).difference(&before).cloned());
        let next = disk.cut(unsynced(cut));
        process.kill();
        load.shutdown().await;
        disk = next;
        // Whatever is under a digest was synced before it got there.
        let storage = disk.path().join("data");
        crate::storage::stored_right(&storage);
        if cut % 2 == 1 {
            // Facts alone are as good as the index.
            let _there_was_none = std::fs::remove_file(storage.join("index.redb"));
        }
        let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
        catalogue.is_served_offline(&process.client(), &known).await;
        process.kill();
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
    crate::storage::eventually("all is durable", async || {
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
    catalogue.tags_are_served_offline(&process.client()).await;
    nothing_is_leaked(&process, &storage).await;
}
