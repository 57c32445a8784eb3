//! What is there, on its way, or still read: the numbers behind the promises.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::oci::Digest;

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Recorded blobs: the index's sums by the registry that can give them again.
    pub(super) recorded_by: HashMap<Box<str>, u64>,
    pub(super) recorded: u64,
    /// Of `recorded`: what has no file any more. Bytes.
    pub(super) leaving: HashMap<Digest, u64>,
    /// By upstream, what is set aside for bytes that are not proven yet, and what running fills say they will need.
    pub(super) unproven_by: HashMap<Box<str>, u64>,
    pub(super) claimed_by: HashMap<Box<str>, u64>,
    /// Running fills, and what interrupted ones left.
    pub(super) partial: u64,
    pub(super) partial_by: HashMap<Box<str>, u64>,
    /// Of `partial`: committed blobs that readers of the index do not see yet, each for its registry. Bytes.
    pub(super) arriving: HashMap<Digest, (Box<str>, u64)>,
    /// Files whose bytes were found to be wrong.
    pub(super) quarantined: u64,
    /// Changes of `quarantined`.
    pub(super) quarantine_changes: u64,
    /// Removed files that somebody still reads.
    pub(super) deleted_open_bytes: u64,
    /// The index, as far as it counts.
    pub(super) index: u64,
    /// Of `partial`: files that no fill is working on.
    pub(super) leftovers: HashMap<PathBuf, Leftover>,
    /// What a full disk refused.
    pub(super) wanted: Option<Wanted>,
    /// A quota of the file system refused something.
    pub(super) is_quota_full: bool,
}

/// The disk was full although the limits were kept: others use it, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Free bytes that there should be.
    pub(super) free: u64,
    /// Evicted for it at most, so that others cannot empty the store. Bytes.
    pub(super) budget: u64,
    /// A quota of the file system refused it: what the disk has free says nothing.
    pub(super) by_quota: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Leftover {
    pub(super) size_bytes: u64,
    /// When it was first looked at. Milliseconds, by the clock of whoever looked.
    pub(super) seen: Option<u64>,
}

impl Counts {
    /// Recorded blobs that have their files.
    pub(super) fn stored(&self) -> u64 {
        self.recorded.saturating_sub(self.leaving.values().sum())
    }

    pub(super) fn used(&self) -> u64 {
        self.stored()
            .saturating_add(self.partial)
            .saturating_add(self.deleted_open_bytes)
            .saturating_add(self.quarantined)
            .saturating_add(self.index)
    }

    /// The file of a recorded blob is gone.
    pub(super) fn remove_file(&mut self, digest: Digest, size_bytes: u64) {
        self.end_arrival(digest);
        self.leaving.insert(digest, size_bytes);
    }

    /// Its record counts it, or nothing does.
    pub(super) fn end_arrival(&mut self, digest: Digest) {
        if let Some((authority, size_bytes)) = self.arriving.remove(&digest) {
            self.sub_partial(&authority, size_bytes);
        }
    }

    pub(super) fn set_quarantined(&mut self, size_bytes: u64) {
        self.quarantined = size_bytes;
        self.quarantine_changes += 1;
    }

    /// Bytes recorded of other registries than this one.
    pub(super) fn recorded_of_others(&self, authority: &str) -> u64 {
        self.recorded.saturating_sub(self.recorded_by.get(authority).copied().unwrap_or(0))
    }

    /// Bytes that running fills of an upstream claim and have not set aside.
    pub(super) fn outstanding(&self, upstream: &str) -> u64 {
        let of = |sums: &HashMap<Box<str>, u64>| sums.get(upstream).copied().unwrap_or(0);
        of(&self.claimed_by).saturating_sub(of(&self.unproven_by))
    }

    pub(super) fn unproven(&self) -> u64 {
        self.unproven_by.values().sum()
    }

    pub(super) fn add_partial(&mut self, authority: &str, size_bytes: u64) {
        self.partial += size_bytes;
        *self.partial_by.entry(authority.into()).or_default() += size_bytes;
    }

    pub(super) fn sub_partial(&mut self, authority: &str, size_bytes: u64) {
        self.partial = self.partial.saturating_sub(size_bytes);
        subtract(&mut self.partial_by, authority, size_bytes);
    }
}

/// Authorities come and go with wildcards: a sum of nothing is not kept.
pub(super) fn subtract(sums: &mut HashMap<Box<str>, u64>, authority: &str, size_bytes: u64) {
    if let Some(sum) = sums.get_mut(authority) {
        *sum = sum.saturating_sub(size_bytes);
        if *sum == 0 {
            sums.remove(authority);
        }
    }
}

/// Partial files lie in a directory named after the authority.
pub(super) fn authority_of(partial: &Path) -> Box<str> {
    partial.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into()).unwrap_or_default()
}
