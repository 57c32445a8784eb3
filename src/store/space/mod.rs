//! The promises about size, kept by reserving before the first byte.

mod counts;
mod leftovers;
mod limits;
mod reservation;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use limits::Shortage;
pub use reservation::Reservation;

use counts::{Counts, Wanted, authority_of};

use crate::file_blocks::in_blocks;
use crate::oci::Digest;

/// What the operator promised others about this disk. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceLimits {
    /// Blobs, partial files, what is in quarantine and a large index stay below together.
    pub max_size: Option<u64>,
    /// The file system keeps so much free.
    pub min_free: u64,
    /// Above this much of `max_size`, some is evicted …
    pub high_mark: Option<u64>,
    /// … down to this much.
    pub low_mark: Option<u64>,
}

/// What index and journal need besides, to write down that something was stored. Bytes.
const WORKING_BYTES: u64 = 2 * 1024 * 1024;
/// The first bytes of the index and of the facts beside it, which count towards no limit: a small store has them, too.
const FREE_INDEX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(in crate::store) struct Space {
    root: PathBuf,
    limits: SpaceLimits,
    counts: Mutex<Counts>,
    /// Something should go.
    pressure: Notify,
}

/// Bytes of the whole disk that a path is on, or would be; `None` if that cannot be found out.
pub fn disk_bytes(path: &Path) -> Option<u64> {
    let path = if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) };
    let there = path.ancestors().find(|above| above.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_blocks.saturating_mul(disk.f_frsize))
}

impl Space {
    pub(in crate::store) fn new(root: PathBuf, limits: SpaceLimits) -> Self {
        Self { root, limits, counts: Mutex::default(), pressure: Notify::new() }
    }

    pub(in crate::store) const fn limits(&self) -> SpaceLimits {
        self.limits
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Space for the file of that name, which `upstream` brings; `None` when a limit would be broken.
    pub(in crate::store) fn reserve(
        self: &Arc<Self>,
        partial: &Path,
        upstream: &str,
        size_bytes: u64,
    ) -> Option<Reservation> {
        let mut reservation = self.empty_reservation(partial, upstream);
        reservation.grow(size_bytes).then_some(reservation)
    }

    /// Nothing is set aside yet.
    pub(in crate::store) fn empty_reservation(self: &Arc<Self>, partial: &Path, upstream: &str) -> Reservation {
        let (space, authority) = (Arc::clone(self), authority_of(partial));
        Reservation { space, authority, upstream: upstream.into(), size_bytes: 0, claimed_bytes: 0 }
    }

    /// Bytes that should go in the background. Removed files that are still read go by themselves.
    pub(in crate::store) fn surplus(&self, begun: bool) -> u64 {
        let used = {
            let counts = self.counts();
            counts.used() - counts.deleted_open_bytes
        };
        let over = match (self.limits.high_mark, self.limits.low_mark) {
            (Some(high), Some(low)) if used > if begun { low } else { high } => used.saturating_sub(low),
            _ => 0,
        };
        // A little more than asked for, so that not every fill has to wait.
        let lack = self.disk(0).lack;
        over.max(if lack > 0 { lack + self.limits.min_free / 20 } else { 0 }).max(self.refused())
    }

    /// The disk took no more, when so many bytes were to be written. If it is full indeed, and if that would make the room,
    /// so much is evicted in the background.
    pub(in crate::store) fn disk_refused(&self, size_bytes: u64) {
        let wanted = size_bytes.saturating_add(WORKING_BYTES);
        let by_quota = std::mem::take(&mut self.counts().is_quota_full);
        let free = if by_quota { Some(0) } else { self.free() };
        let Some(budget) = free.and_then(|free| wanted.checked_sub(free)).filter(|lack| *lack > 0) else {
            return;
        };
        let mut counts = self.counts();
        if budget > counts.stored().saturating_add(counts.quarantined) {
            return;
        }
        let before = counts.wanted.map_or(0, |before| before.free);
        counts.wanted = Some(Wanted { free: wanted.max(before), budget, by_quota });
        drop(counts);
        self.pressure.notify_one();
    }

    /// Why the disk refused something, for when it is told how much that was.
    pub(in crate::store) fn note_refusal(&self, err: &io::Error) {
        if err.kind() == io::ErrorKind::QuotaExceeded {
            self.counts().is_quota_full = true;
        }
    }

    /// What a full disk refused, as far as it is still lacking. Bytes.
    fn refused(&self) -> u64 {
        let Some(wanted) = self.counts().wanted else { return 0 };
        let lack = if wanted.by_quota {
            wanted.budget
        } else {
            self.free().map_or(0, |free| wanted.free.saturating_sub(free)).min(wanted.budget)
        };
        if lack == 0 {
            self.counts().wanted = None;
        }
        lack
    }

    /// So much was evicted.
    pub(in crate::store) fn evicted(&self, size_bytes: u64) {
        if let Some(wanted) = &mut self.counts().wanted {
            wanted.budget = wanted.budget.saturating_sub(size_bytes);
        }
    }

    /// Whether so much could ever fit, were everything else gone.
    pub(in crate::store) fn could_fit(&self, size_bytes: u64) -> bool {
        self.limits.max_size.is_none_or(|max| in_blocks(size_bytes).saturating_add(self.counts().index) <= max)
    }

    /// So much the index and the facts beside it take on the disk. They take at most half of the limit from the blobs:
    /// what goes for them makes them no smaller.
    pub(in crate::store) fn count_index(&self, bytes_on_disk: u64) {
        let most = self.limits.max_size.map_or(u64::MAX, |max| max / 2);
        self.counts().index = bytes_on_disk.saturating_sub(FREE_INDEX_BYTES).min(most);
    }

    pub(in crate::store) async fn pressed(&self) {
        self.pressure.notified().await;
    }

    /// What is recorded, by registry, after records were written and removed. What was set aside for new ones is given
    /// back in the same step, so that nothing is counted twice, or not at all.
    pub(in crate::store) fn record<'a>(
        &self,
        by_registry: impl IntoIterator<Item = (&'a str, u64)>,
        put: &[Digest],
        removed: &[Digest],
    ) {
        let mut counts = self.counts();
        counts.recorded_by = by_registry.into_iter().map(|(registry, bytes)| (registry.into(), bytes)).collect();
        counts.recorded = counts.recorded_by.values().sum();
        for digest in put.iter().chain(removed) {
            counts.leaving.remove(digest);
        }
        for digest in put {
            counts.end_arrival(*digest);
        }
        let used = counts.used();
        drop(counts);
        // While it was being filled, it could not go.
        if !put.is_empty() && self.limits.high_mark.is_some_and(|high| used > high) {
            self.pressure.notify_one();
        }
    }

    /// The file of a stored blob is gone; its record goes later.
    pub(in crate::store) fn remove_file(&self, digest: Digest, size_bytes: u64) {
        self.counts().remove_file(digest, in_blocks(size_bytes));
    }

    /// From here on a blob counts as the index has it.
    pub(in crate::store) fn count_as_recorded(&self, digest: Digest) {
        let mut counts = self.counts();
        counts.leaving.remove(&digest);
        counts.end_arrival(digest);
    }

    /// A stored file has become one in quarantine.
    pub(in crate::store) fn move_to_quarantine(&self, digest: Digest, size_bytes: u64) {
        let (mut counts, size_bytes) = (self.counts(), in_blocks(size_bytes));
        counts.remove_file(digest, size_bytes);
        let quarantined = counts.quarantined + size_bytes;
        counts.set_quarantined(quarantined);
    }

    pub(in crate::store) fn forget_quarantined(&self, size_bytes: u64) {
        let mut counts = self.counts();
        let quarantined = counts.quarantined.saturating_sub(in_blocks(size_bytes));
        counts.set_quarantined(quarantined);
        drop(counts);
        self.evicted(size_bytes);
    }

    pub(in crate::store) fn quarantined(&self) -> u64 {
        self.counts().quarantined
    }

    /// Stands for this moment of the quarantine.
    pub(in crate::store) fn quarantine_moment(&self) -> u64 {
        self.counts().quarantine_changes
    }

    /// What was found in quarantine, if nothing has changed since that moment.
    pub(in crate::store) fn settle_quarantine(&self, moment: u64, size_bytes: u64) {
        let mut counts = self.counts();
        if counts.quarantine_changes == moment {
            counts.quarantined = size_bytes;
        }
    }

    pub(in crate::store) fn add_deleted_open(&self, size_bytes: u64) {
        self.counts().deleted_open_bytes += in_blocks(size_bytes);
    }

    pub(in crate::store) fn forget_deleted_open(&self, size_bytes: u64) {
        let mut counts = self.counts();
        counts.deleted_open_bytes = counts.deleted_open_bytes.saturating_sub(in_blocks(size_bytes));
    }

    pub(in crate::store) fn used(&self) -> u64 {
        self.counts().used()
    }

    /// Bytes of all partial files, as far as they are to grow.
    pub(in crate::store) fn promised(&self) -> u64 {
        self.counts().partial
    }

    /// The same of one registry.
    pub(in crate::store) fn promised_to(&self, authority: &str) -> u64 {
        self.counts().partial_by.get(authority).copied().unwrap_or(0)
    }

    /// Bytes that a registry takes: recorded blobs, and its partial files as far as they are to grow.
    pub(in crate::store) fn used_by(&self, authority: &str) -> u64 {
        let counts = self.counts();
        let of = |sums: &HashMap<Box<str>, u64>| sums.get(authority).copied().unwrap_or(0);
        of(&counts.recorded_by) + of(&counts.partial_by)
    }

    /// Recorded bytes by the registry that can give them again; the empty name is for those that none can.
    pub(in crate::store) fn stored_by(&self) -> Vec<(String, u64)> {
        self.counts().recorded_by.iter().map(|(registry, bytes)| (registry.to_string(), *bytes)).collect()
    }
}

#[cfg(test)]
mod tests;
