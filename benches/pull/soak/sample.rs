//! What is looked at again and again while the traffic runs.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::traffic::Seen;
use crate::usage::{descriptors, private_kib};

pub(super) struct Sample {
    /// Since the start.
    pub(super) minutes: f64,
    pub(super) private_bytes: u64,
    pub(super) descriptors: usize,
    pub(super) index_bytes: u64,
    /// Sum of the lengths of blobs and running downloads, which is what the quota is about.
    pub(super) held_bytes: u64,
    /// What they take on the disk, in whole blocks.
    pub(super) used_bytes: u64,
    /// Since the sample before, as the rest.
    pub(super) answers: u64,
    pub(super) p99_ms: f64,
    /// Of all bytes that clients got, those that were there already.
    pub(super) byte_hits: f64,
}

impl Sample {
    pub(super) fn json(&self) -> Value {
        json!({
            "minutes": self.minutes,
            "private_bytes": self.private_bytes,
            "descriptors": self.descriptors,
            "index_bytes": self.index_bytes,
            "held_bytes": self.held_bytes,
            "used_bytes": self.used_bytes,
            "answers": self.answers,
            "p99_of_hits_ms": self.p99_ms,
            "byte_hit_ratio": self.byte_hits,
        })
    }
}

/// A thread of its own.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub(super) fn start(pid: u32, storage: PathBuf, seen: Seen, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let begun = Instant::now();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            let mut due = begun + every;
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(due.saturating_duration_since(Instant::now()));
                if Instant::now() < due {
                    continue;
                }
                due += every;
                samples.push(look(pid, &storage, &seen, begun));
            }
            samples
        });
        Self { stop, thread }
    }

    pub(super) fn end(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("the server runs until it is no longer looked at")
    }
}

fn look(pid: u32, storage: &Path, seen: &Seen, begun: Instant) -> Sample {
    let mut seen = seen.take();
    seen.hit_micros.sort_unstable();
    let p99 = seen.hit_micros.get(seen.hit_micros.len() * 99 / 100).copied().unwrap_or(0);
    let (held_bytes, used_bytes) = used(storage);
    Sample {
        minutes: begun.elapsed().as_secs_f64() / 60.0,
        private_bytes: private_kib(pid) * 1024,
        descriptors: descriptors(pid),
        index_bytes: fs::metadata(storage.join("index.redb")).map_or(0, |file| file.len()),
        held_bytes,
        used_bytes,
        answers: seen.count,
        p99_ms: f64::from(p99) / 1000.0,
        byte_hits: seen.hit_bytes as f64 / (seen.bytes as f64).max(1.0),
    }
}

/// Of all blobs and running downloads, the lengths and their blocks. What goes meanwhile does not count; a blob that has its
/// partial name still counts once.
fn used(storage: &Path) -> (u64, u64) {
    const SECTOR: u64 = 512;
    let (mut held, mut used) = (0, 0);
    let mut counted = HashSet::new();
    let mut folders = vec![storage.join("blobs"), storage.join("partial")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) if !counted.insert(found.ino()) => (),
                Ok(found) => {
                    held += found.len();
                    used += found.blocks() * SECTOR;
                }
                Err(_) => (),
            }
        }
    }
    (held, used)
}
