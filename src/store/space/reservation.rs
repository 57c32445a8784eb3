//! Bytes on their way: set aside, stored, recorded.

use std::sync::Arc;

use super::Space;
use super::counts::subtract;

/// Bytes set aside for a partial file; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pub(super) space: Arc<Space>,
    pub(super) authority: Box<str>,
    pub(super) size_bytes: u64,
}

/// A stored blob that the index does not have yet.
#[derive(Debug)]
pub(in crate::store) struct Unrecorded {
    pub(super) space: Arc<Space>,
    pub(super) authority: Box<str>,
    pub(super) size_bytes: u64,
}

impl Reservation {
    /// The partial file has become a stored blob of so many bytes.
    pub(in crate::store) fn becomes_stored(self, size_bytes: u64) -> Unrecorded {
        let mut counts = self.space.counts();
        let stored = counts.stored.saturating_add(size_bytes);
        counts.set_stored(stored);
        *counts.unrecorded.entry(self.authority.clone()).or_default() += size_bytes;
        drop(counts);
        Unrecorded { space: Arc::clone(&self.space), authority: self.authority.clone(), size_bytes }
    }
}

impl Unrecorded {
    /// The index has it. What it never gets stays counted here.
    pub(in crate::store) fn recorded(self) {
        let mut counts = self.space.counts();
        counts.changes += 1;
        subtract(&mut counts.unrecorded, &self.authority, self.size_bytes);
        let used = counts.used();
        drop(counts);
        // While it was being filled, it could not go.
        if self.space.limits.high_mark.is_some_and(|high| used > high) {
            self.space.pressure.notify_one();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.counts().sub_partial(&self.authority, self.size_bytes);
    }
}
