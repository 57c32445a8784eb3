//! The real program, killed at random moments under load.

use std::time::Duration;

use super::traffic::{Catalogue, nothing_is_leaked};
use crate::blobs::process::Process;
use crate::support::faulty_disk::Dice;
use crate::support::mirror::files_below;

/// More with `ROADSTEAD_KILLS=200`.
const KILLS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_loses_nothing_serves_nothing_wrong_and_leaks_no_space() {
    let kills = std::env::var("ROADSTEAD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("data");
    let catalogue = Catalogue::publish().await;
    catalogue.upstream.throttle(60 * 1024 * 1024);
    let mut dice = Dice(kills);
    let mut resumable = 0;
    for kill in 0..kills {
        let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
        let mut load = catalogue.load(&process.client(), 4, kill);
        // The moment is random, not the order of anything.
        tokio::time::sleep(Duration::from_millis(5 + dice.below(400))).await;
        process.kill();
        load.abort_all();
        while let Some(ended) = load.join_next().await {
            assert!(ended.is_err_and(|err| err.is_cancelled()), "a client was answered wrong (kill {kill})");
        }
        catalogue.nothing_is_lost(&storage);
        // Each start begins with what the last life left; every few times it is looked at in peace.
        if kill % 5 == 4 {
            let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
            resumable += files_below(&storage.join("partial")).len();
            catalogue.all_is_served(&process.client()).await;
            nothing_is_leaked(&process, &storage).await;
            catalogue.nothing_is_lost(&storage);
            process.stop().await;
            // From nothing again, so that there is something to fill.
            std::fs::remove_dir_all(&storage).unwrap();
            catalogue.forget_hits();
        }
    }
    eprintln!("{kills} kills survived; {resumable} files of interrupted downloads were found");
    let process = Process::start_on(directory.path(), &storage, &catalogue.toml()).await;
    catalogue.all_is_served(&process.client()).await;
    nothing_is_leaked(&process, &storage).await;
    catalogue.all_is_served_offline(&process.client()).await;
}
