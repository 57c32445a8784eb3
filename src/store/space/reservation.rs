//! Bytes on their way: set aside, stored, recorded.

use std::sync::Arc;

use super::counts::{Counts, subtract};
use super::{Shortage, Space};
use crate::file_blocks::in_blocks;
use crate::oci::Digest;

/// Bytes set aside for a partial file; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pub(super) space: Arc<Space>,
    pub(super) authority: Box<str>,
    /// The upstream as it is configured: the authorities of a wildcard share what one upstream may have.
    pub(super) upstream: Box<str>,
    pub(super) size_bytes: u64,
    /// The size that upstream gives; never less than what is set aside.
    pub(super) claimed_bytes: u64,
}

impl Reservation {
    pub(in crate::store) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Sets aside up to `size_bytes` in all; `false` when a limit would be broken.
    pub(in crate::store) fn grow(&mut self, size_bytes: u64) -> bool {
        let more = in_blocks(size_bytes).saturating_sub(in_blocks(self.size_bytes));
        if more > 0 && !self.space.take(&self.authority, &self.upstream, more) {
            return false;
        }
        self.size_bytes = size_bytes.max(self.size_bytes);
        self.set_claim(&mut self.space.clone().counts(), self.claimed_bytes);
        true
    }

    /// The size that the download will have, if upstream tells the truth. What has to go before it fits, beside all that
    /// the other downloads of this upstream claim.
    pub(in crate::store) fn claim(&mut self, claimed_bytes: u64) -> Shortage {
        let space = Arc::clone(&self.space);
        let mut counts = space.counts();
        let own = in_blocks(self.size_bytes);
        let others = counts.outstanding(&self.upstream).saturating_sub(in_blocks(self.claimed_bytes) - own);
        let more = in_blocks(claimed_bytes).saturating_sub(own).saturating_add(others);
        self.set_claim(&mut counts, claimed_bytes);
        drop(counts);
        let disk = space.disk(more);
        let counts = space.counts();
        space.shortage_of(&counts, &disk, (&self.authority, &self.upstream), more)
    }

    fn set_claim(&mut self, counts: &mut Counts, claimed_bytes: u64) {
        subtract(&mut counts.claimed_by, &self.upstream, in_blocks(self.claimed_bytes));
        self.claimed_bytes = claimed_bytes.max(self.size_bytes);
        *counts.claimed_by.entry(self.upstream.clone()).or_default() += in_blocks(self.claimed_bytes);
    }

    /// Gives back what is set aside beyond `size_bytes`.
    pub(in crate::store) fn shrink(&mut self, size_bytes: u64) {
        let left = size_bytes.min(self.size_bytes);
        let less = in_blocks(self.size_bytes) - in_blocks(left);
        {
            let mut counts = self.space.counts();
            counts.sub_partial(&self.authority, less);
            subtract(&mut counts.unproven_by, &self.upstream, less);
        }
        self.size_bytes = left;
        self.set_claim(&mut self.space.clone().counts(), self.size_bytes);
    }

    fn end_unproven(&self, counts: &mut Counts) {
        subtract(&mut counts.unproven_by, &self.upstream, in_blocks(self.size_bytes));
        subtract(&mut counts.claimed_by, &self.upstream, in_blocks(self.claimed_bytes));
    }

    /// The partial file has become a stored blob of so many bytes, which stay set aside until its record is visible.
    pub(in crate::store) fn becomes_stored(mut self, digest: Digest, size_bytes: u64) {
        let size_bytes = in_blocks(size_bytes);
        let mut counts = self.space.counts();
        counts.sub_partial(&self.authority, in_blocks(self.size_bytes));
        self.end_unproven(&mut counts);
        counts.add_partial(&self.authority, size_bytes);
        // The file of one that is on its way has lost the name to this one.
        counts.end_arrival(digest);
        counts.arriving.insert(digest, (self.authority.clone(), size_bytes));
        drop(counts);
        (self.size_bytes, self.claimed_bytes) = (0, 0);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut counts = self.space.counts();
        counts.sub_partial(&self.authority, in_blocks(self.size_bytes));
        self.end_unproven(&mut counts);
    }
}
