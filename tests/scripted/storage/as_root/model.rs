//! Random traffic over a disk that fails at random operations: what is answered is right, what is stored is right, and
//! when the disk works again everything is stored, counted, and nothing else is left.

use std::collections::BTreeSet;
use std::time::Duration;

use roadstead::cache::scrub::{VerifyProgress, verify};
use roadstead::jobs::{add_pins, list_pins};
use rustix::io::Errno;

use crate::storage::traffic::counts_what_is_there;
use crate::storage::{eventually, is_held, one, published, pull, quiet};
use crate::support::faulty_disk::*;
use crate::support::image::Image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

/// More with `ROADSTEAD_MODEL_STEPS`, others with `ROADSTEAD_MODEL_SEED`.
const STEPS: u64 = 60;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn any_fault(dice: &mut Dice, places: &[&str]) -> Fault {
    let op = Op::ALL[usize::try_from(dice.below(Op::ALL.len() as u64)).unwrap()];
    let place = places[usize::try_from(dice.below(places.len() as u64)).unwrap()];
    let fault = if dice.below(3) == 0 { Fault::on_changes() } else { Fault::on(op) };
    let fault = fault.at(place).after(dice.below(20));
    match dice.below(6) {
        0 => Fault::on(Op::Write).at(place).short(usize::try_from(1 + dice.below(5000)).unwrap()).times(20),
        1 => fault.with(Errno::IO).always(),
        2 => fault.with(Errno::NOSPC).always(),
        3 => fault.with(Errno::NOSPC),
        _ => fault.with(Errno::IO),
    }
}

/// Whatever is under a digest has it, read past the faults.
fn all_right(disk: &FaultyDisk) {
    for (path, bytes) in disk.contents("/blobs/sha256/") {
        let name = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
        assert_eq!(sha256(&bytes), name, "a wrong byte is readable");
    }
}

/// The disk works, and what was asked of it in the end is there: all images, or as many as the quota takes.
async fn settles(
    mirror: &Mirror,
    disk: &FaultyDisk,
    (images, fitting): (&[(String, Image)], usize),
    pinned: &BTreeSet<String>,
) {
    disk.heals();
    mirror.advance(Duration::from_secs(31));
    for part in ["index", "store_writes"] {
        let line = format!("roadstead_storage_healthy{{part=\"{part}\"}}");
        eventually("the disk is trusted again", async || mirror.metric(&line) == 1.0).await;
    }
    // After a start they are read in the background.
    eventually("what was promised to be pinned is", async || {
        let kept: BTreeSet<_> =
            list_pins(mirror.inner()).await.unwrap_or_default().iter().map(|pin| pin.pattern.to_string()).collect();
        pinned.is_subset(&kept)
    })
    .await;
    // A file that was removed by hand is noticed when it is asked for.
    for (name, image) in images {
        pull(&mirror.client(), name, image).await;
    }
    eventually("everything is stored", async || {
        // A blob that found no space while the index was being repaired is not tried again at once.
        mirror.advance(Duration::from_secs(31));
        for (name, image) in &images[..fitting] {
            pull(&mirror.client(), name, image).await;
            quiet(mirror).await;
            if !is_held(&mirror.client(), name, image).await {
                return false;
            }
        }
        true
    })
    .await;
    eventually("no partial file is left", async || files_below(&mirror.storage().join("partial")).is_empty()).await;
    counts_what_is_there(&mirror.storage(), async || mirror.metric("roadstead_stored_bytes")).await;
}

#[tokio::test]
async fn random_faults_of_the_disk_fail_no_pull_and_leave_nothing_wrong_behind() {
    run("", &["/partial/", "/blobs/", "/facts/", "index.redb", "/data/"], 8).await;
}

/// Three images fit: each pull evicts, with a disk that fails at any moment of it.
#[tokio::test]
async fn random_faults_while_blobs_are_evicted_fail_no_pull_and_leave_nothing_wrong_behind() {
    run("max_size = \"1200KiB\"", &["/partial/", "/blobs/", "/facts/", "index.redb", "/data/"], 1).await;
}

/// With faults in these places; so many images must fit at the end.
async fn run(storage: &str, places: &[&str], fitting: usize) {
    let (steps, seed) = (from_environment("ROADSTEAD_MODEL_STEPS", STEPS), from_environment("ROADSTEAD_MODEL_SEED", 1));
    let mut dice = Dice(seed);
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let images: Vec<_> =
        (0..8).map(|nth| (format!("app{nth}"), published(&upstream, &format!("app{nth}"), 10 * nth))).collect();
    let mut mirror = Mirror::builder(one(&upstream)).storage(storage).directory(disk.directory()).start().await;
    // Those of which the mirror said that they are made.
    let mut pinned = BTreeSet::new();
    for step in 0..steps {
        let act = dice.below(14);
        match act {
            0..=5 => {
                let (name, image) = &images[usize::try_from(dice.below(images.len() as u64)).unwrap()];
                pull(&mirror.client(), name, image).await;
            }
            6 | 7 => disk.fails(any_fault(&mut dice, places)),
            8 => settles(&mirror, &disk, (&images, fitting), &pinned).await,
            9 => {
                disk.heals();
                mirror = mirror.restart().await;
            }
            10 => {
                // Something goes by hand while nobody has it in memory, or open.
                disk.heals();
                let stopped = mirror.stop().await;
                let stored = files_below(&stopped.storage().join("blobs"));
                if let Some(path) = stored.get(usize::try_from(dice.below(1 + stored.len() as u64)).unwrap()) {
                    std::fs::remove_file(path).unwrap();
                }
                mirror = stopped.start().await;
            }
            11 => {
                // Nothing of this repository is pulled, so that everything may be evicted.
                let pin = format!("docker.io/org/pinned{step}");
                if add_pins(mirror.inner(), std::slice::from_ref(&pin)).await.is_ok() {
                    pinned.insert(pin);
                }
            }
            12 => {
                // Nothing that is stored is wrong, whatever was refused.
                disk.heals();
                let report = verify(mirror.inner().cache(), None, &VerifyProgress::default()).await;
                assert!(report.complete && report.wrong.is_empty() && report.unreadable.is_empty(), "{report:?}");
            }
            _ => mirror.advance(Duration::from_secs(31)),
        }
        all_right(&disk);
        eprintln!("step {step} of seed {seed}: {act}");
    }
    settles(&mirror, &disk, (&images, fitting), &pinned).await;
    // Durable facts are known to the next process, too, also without the database.
    let stopped = mirror.stop().await;
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    let mirror = stopped.start().await;
    upstream.close_on_accept();
    upstream.cut_connections();
    for (name, image) in &images[..fitting] {
        pull(&mirror.client(), name, image).await;
    }
    settles(&mirror, &disk, (&[], 0), &pinned).await;
}
