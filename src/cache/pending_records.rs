//! Blobs that were stored while the index took nothing, and manifests that the disk did not take.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::index::Change;
use crate::oci::{Authority, Digest};
use crate::store::PendingRecord;

/// Blobs remembered. The next start records further ones that the index has lost.
const MAX: usize = 10_000;
/// Between looks at a count that may be wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// By digest: the registry a manifest came from, and the facts about it.
type Unstored = HashMap<Digest, (Authority, Vec<Change>)>;

#[derive(Default)]
pub(super) struct PendingRecords {
    waiting: Mutex<Vec<Waiting>>,
    /// Manifests that are in memory only.
    unstored: Mutex<Unstored>,
    doubt: Notify,
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

    pub(super) fn push(&self, digest: Digest, facts: Vec<Change>, mut blob: PendingRecord) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX {
            waiting.push(Waiting { digest, facts, blob });
        } else {
            blob.recorded();
        }
    }

    pub(super) fn contains(&self, digest: Digest) -> bool {
        self.waiting().iter().any(|waiting| waiting.digest == digest)
    }

    pub(super) fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting())
    }

    pub(super) fn put_back(&self, mut waiting: Vec<Waiting>) {
        self.waiting().append(&mut waiting);
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

    /// What is counted may differ from what is there: the index is asked soon.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Resolves some time after there was a doubt.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
        tokio::time::sleep(PAUSE).await;
    }
}
