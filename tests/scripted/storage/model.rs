//! Random traffic over a disk that fails at random operations: what is answered is right, what is stored is right, and
//! when the disk works again everything is stored, counted, and nothing else is left.

use std::time::Duration;

use rustix::io::Errno;

use super::traffic::counts_what_is_there;
use super::{eventually, is_held, on, published, pull, quiet};
use crate::support::faulty_disk::*;
use crate::support::image::Image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

/// More with `ROADSTEAD_MODEL_STEPS`, others with `ROADSTEAD_MODEL_SEED`.
const STEPS: u64 = 60;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn any_fault(dice: &mut Dice) -> Fault {
    let op = Op::ALL[usize::try_from(dice.below(Op::ALL.len() as u64)).unwrap()];
    // The index has its own ways with a failing disk, and its own tests.
    let place = if dice.below(2) == 0 { "/partial/" } else { "/blobs/" };
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

async fn settles(mirror: &Mirror, disk: &FaultyDisk, images: &[(String, Image)]) {
    disk.heals();
    mirror.advance(Duration::from_secs(31));
    eventually("everything is stored", async || {
        for (name, image) in images {
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
    let (steps, seed) = (from_environment("ROADSTEAD_MODEL_STEPS", STEPS), from_environment("ROADSTEAD_MODEL_SEED", 1));
    let mut dice = Dice(seed);
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let images: Vec<_> =
        (0..8).map(|nth| (format!("app{nth}"), published(&upstream, &format!("app{nth}"), 10 * nth))).collect();
    let mut mirror = on(&disk, &upstream).await;
    for step in 0..steps {
        let act = dice.below(12);
        match act {
            0..=5 => {
                let (name, image) = &images[usize::try_from(dice.below(images.len() as u64)).unwrap()];
                pull(&mirror.client(), name, image).await;
            }
            6 | 7 => disk.fails(any_fault(&mut dice)),
            8 => settles(&mirror, &disk, &images).await,
            9 => {
                disk.heals();
                mirror = mirror.restart().await;
            }
            10 => {
                // Something goes by hand.
                disk.heals();
                let stored = files_below(&mirror.storage().join("blobs"));
                if let Some(path) = stored.get(usize::try_from(dice.below(1 + stored.len() as u64)).unwrap()) {
                    std::fs::remove_file(path).unwrap();
                }
            }
            _ => mirror.advance(Duration::from_secs(31)),
        }
        all_right(&disk);
        eprintln!("step {step} of seed {seed}: {act}");
    }
    settles(&mirror, &disk, &images).await;
}
