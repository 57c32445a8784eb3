//! The disk of the storage: kind, room, inodes, speed, and the descriptors of this process.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};

use super::finding::Findings;
use crate::cli::output::size;

const ABOUT: &str = "disk";
/// What is written to see how fast that is. It has no name, and is gone with its descriptor.
const SAMPLE_BYTES: usize = 16 * 1024 * 1024;
/// Slower than many networks: fills wait for it.
const SLOW_BYTES_PER_SECOND: f64 = 50e6;
const LOW_INODES: u64 = 10_000;
const LOW_DESCRIPTORS: u64 = 4096;

pub(super) fn look(storage: &Path, findings: &mut Findings) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < LOW_DESCRIPTORS {
        findings.doubt(
            "descriptors",
            format!("{limit} for one process, as for this command"),
            "LimitNOFILE=1048576 in the unit, or ulimit -n",
        );
    }
    let Ok(metadata) = std::fs::metadata(storage) else {
        findings.doubt(
            ABOUT,
            format!("{} is not there yet, or not for you to see", storage.display()),
            "the server makes it; run this as root",
        );
        return;
    };
    kind(storage, metadata.dev(), findings);
    match rustix::fs::statvfs(storage) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            findings.good(
                ABOUT,
                format!("{} are free of {}", size(free), size(stat.f_blocks.saturating_mul(stat.f_frsize))),
            );
            // Some file systems have no fixed number of them.
            if stat.f_files > 0 && stat.f_favail < LOW_INODES {
                findings.bad(
                    ABOUT,
                    format!("{} inodes are left: each blob takes one", stat.f_favail),
                    "remove small files, or make the file system anew with more inodes",
                );
            }
        }
        Err(err) => findings.bad(ABOUT, format!("{}: {err}", storage.display()), "look at the mount"),
    }
    speed(storage, findings);
}

fn kind(storage: &Path, device: u64, findings: &mut Findings) {
    // statfs(2)
    let magic = rustix::fs::statfs(storage).map_or(0, |stat| stat.f_type);
    let network = [(0x6969, "NFS"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB2"), (0x0C36_6400, "Ceph")];
    if let Some((_, name)) = network.into_iter().find(|(number, _)| *number == magic) {
        findings.doubt(
            ABOUT,
            format!("the storage is on {name}: locks, fsync and speed are those of another machine"),
            "use a local disk",
        );
    }
    if magic == 0x0102_1994 {
        findings.doubt(
            ABOUT,
            "the storage is in memory (tmpfs): a restart of the machine empties it",
            "use a disk, if that is not meant",
        );
    }
    if magic == 0x794C_7630 {
        findings.doubt(
            ABOUT,
            "the storage is in a container's own layer (overlayfs): it goes with the container",
            "mount a volume at storage.path",
        );
    }
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let queue = format!("/sys/dev/block/{major}:{minor}");
    // A partition has its queue in its disk.
    let told =
        ["queue", "../queue"].iter().find_map(|at| std::fs::read_to_string(format!("{queue}/{at}/rotational")).ok());
    if told.is_some_and(|told| told.trim() == "1") {
        findings.doubt(
            ABOUT,
            "the system calls it a spinning disk: many clients at one time read slowly",
            "use an SSD",
        );
    }
}

fn speed(storage: &Path, findings: &mut Findings) {
    let write = || -> std::io::Result<f64> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(CWD, storage, flags, Mode::RUSR | Mode::WUSR)?);
        let sample = vec![0xA5; SAMPLE_BYTES];
        let started = Instant::now();
        file.write_all(&sample)?;
        file.sync_data()?;
        Ok(SAMPLE_BYTES as f64 / started.elapsed().as_secs_f64())
    };
    match write() {
        Ok(speed) if speed < SLOW_BYTES_PER_SECOND => {
            findings.doubt(
                ABOUT,
                format!("16 MiB were written and synced at {:.0} MB/s", speed / 1e6),
                "cold pulls are as slow: look for what else uses the disk, or use a faster one",
            );
        }
        Ok(speed) => findings.good(ABOUT, format!("16 MiB were written and synced at {:.0} MB/s", speed / 1e6)),
        Err(err) if err.kind() == std::io::ErrorKind::Unsupported => {}
        Err(err) => findings.bad(
            ABOUT,
            format!("{} cannot be written: {err}", storage.display()),
            "run this as root or as the owner; else look at the mount and its rights",
        ),
    }
}
