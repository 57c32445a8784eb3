//! Blobs that were stored while the index took nothing, and manifests that the disk did not take.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::index::Change;
use crate::oci::{Authority, Digest};
use crate::store::PendingRecord;

/// Blobs remembered. The next start records further ones that the index has lost.
const MAX: usize = 10_000;

/// By digest: the registry a manifest came from, and the facts about it.
type Unstored = HashMap<Digest, (Authority, Vec<Change>)>;

#[derive(Default)]
pub(super) struct PendingRecords {
    waiting: Mutex<Vec<Waiting>>,
    /// Manifests that are in memory only.
    unstored: Mutex<Unstored>,
}

/// A stored blob whose record is not durable.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) digest: Digest,
    pub(super) facts: Vec<Change>,
    pub(super) blob: PendingRecord,
}

impl PendingRecords {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unstored(&self) -> MutexGuard<'_, Unstored> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, digest: Digest, facts: Vec<Change>, blob: PendingRecord) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX {
            waiting.push(Waiting { digest, facts, blob });
        }
    }

    pub(super) fn contains(&self, digest: Digest) -> bool {
        self.waiting().iter().any(|waiting| waiting.digest == digest)
    }

    /// The facts about each that waits, the oldest first. They wait on until [`Self::take`].
    pub(super) fn facts(&self) -> Vec<(Digest, Vec<Change>)> {
        self.waiting().iter().map(|waiting| (waiting.digest, waiting.facts.clone())).collect()
    }

    /// Takes the oldest, after they were recorded. Only one task may do so.
    pub(super) fn take(&self, count: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let count = count.min(waiting.len());
        waiting.drain(..count).collect()
    }

    /// Remembers a manifest that is in memory only.
    pub(super) fn store_later(&self, origin: &Authority, digest: Digest, facts: Vec<Change>) {
        let mut unstored = self.unstored();
        if unstored.len() < MAX {
            unstored.insert(digest, (origin.clone(), facts));
        }
    }

    pub(super) fn take_unstored(&self) -> Unstored {
        std::mem::take(&mut *self.unstored())
    }
}
