//! Bytes on their way: set aside, stored, recorded.

use std::sync::Arc;

use super::Space;
use crate::oci::Digest;

/// Bytes set aside for a partial file; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pub(super) space: Arc<Space>,
    pub(super) authority: Box<str>,
    pub(super) size_bytes: u64,
}

impl Reservation {
    /// The partial file has become a stored blob of so many bytes, which stay set aside until its record is visible.
    pub(in crate::store) fn becomes_stored(mut self, digest: Digest, size_bytes: u64) {
        let mut counts = self.space.counts();
        counts.sub_partial(&self.authority, self.size_bytes);
        counts.add_partial(&self.authority, size_bytes);
        // The file of one that is on its way has lost the name to this one.
        counts.end_arrival(digest);
        counts.arriving.insert(digest, (self.authority.clone(), size_bytes));
        drop(counts);
        self.size_bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.counts().sub_partial(&self.authority, self.size_bytes);
    }
}
