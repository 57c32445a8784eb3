//! Bit-rot: stored bytes are read again at a gentle pace, and what is wrong is taken out of reach.
//!
//! [`pass`] reads, [`judge`] decides, [`schedule`] says when. [`mod@recheck`] reads one blob that a registry contradicts.

mod judge;
mod pass;
mod rate;
mod recheck;
mod retry;
mod schedule;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Cache;
use crate::clock::Timestamp;
use crate::index::{IndexError, Unrecoverable};
use crate::oci::Digest;

pub use judge::{Judgement, take_out};
pub(super) use judge::{remove_record, take_missing};
pub use rate::{InvalidRate, Rate};
pub(super) use recheck::Rechecks;
pub use recheck::recheck;
pub(super) use retry::retry_unreadable;
pub use schedule::run_scrub;

/// Digests that a report names; all are counted.
const MAX_NAMED: usize = 1000;

/// How fast, and how often, stored bytes are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifySettings {
    /// Bytes a second; without it, as fast as the disk gives them.
    pub rate: Option<u64>,
    /// From the beginning of one pass to that of the next; without it, only on demand.
    pub every: Option<Duration>,
}

/// Of a running pass, for who watches or ends it. Shared by reference.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    pub blobs: AtomicU64,
    pub bytes: AtomicU64,
    pub wrong: AtomicU64,
    pub missing: AtomicU64,
    /// Of [`crate::store::scrub::SHARDS`] directories.
    pub shards: AtomicU64,
    stop: CancellationToken,
}

impl VerifyProgress {
    /// Ends the pass soon, in good order; what it has found until then is in its report.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// What a pass has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub blobs: u64,
    pub bytes: u64,
    /// Their bytes were wrong; they are in quarantine.
    pub wrong: Vec<Digest>,
    /// The index has a record of them, and there is no file. The records are removed.
    pub missing: Vec<Digest>,
    /// Of those that are wrong or missing, what no upstream can give again.
    pub lost: Vec<Digest>,
    /// The disk does not give them. They stay where they are, and are fetched again when they are asked for.
    pub unreadable: Vec<Digest>,
    /// Right, and unknown to the index: it knows them now.
    pub recorded: u64,
    /// Directories that cannot be listed: what is in them was not read.
    pub unlisted: u64,
    /// Directories whose records cannot be read: what is missing there is not known.
    pub uncompared: u64,
    /// False where it was stopped early.
    pub complete: bool,
}

/// A blob that was found wrong or missing and that nobody can give again, until it is stored anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub digest: Digest,
    pub size_bytes: u64,
    /// When this was found. Milliseconds since the epoch.
    pub found: Timestamp,
}

impl VerifyReport {
    /// Whether everything that was looked at is as it should be.
    pub const fn is_clean(&self) -> bool {
        self.wrong.is_empty()
            && self.missing.is_empty()
            && self.unreadable.is_empty()
            && self.unlisted == 0
            && self.uncompared == 0
    }
}

/// Reads everything that is stored, once, at `rate` bytes a second, and looks for everything that is recorded.
pub async fn verify(cache: &Cache, rate: Option<u64>, progress: &VerifyProgress) -> VerifyReport {
    pass::Pass::new(cache, rate, progress).all().await
}

/// Blobs that were found wrong or missing and that nobody can give again.
pub async fn lost(cache: &Cache) -> Result<Vec<Lost>, IndexError> {
    let lost = cache.index.unrecoverable().await?.into_iter();
    Ok(lost.map(|(digest, Unrecoverable { size_bytes, found })| Lost { digest, size_bytes, found }).collect())
}

fn name(named: &mut Vec<Digest>, digest: Digest) {
    if named.len() < MAX_NAMED {
        named.push(digest);
    }
}
