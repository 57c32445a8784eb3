//! Blobs that were stored while the index took nothing: recorded when it does, so that what is counted is what is there. And
//! manifests that the disk did not take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::health::Part;
use crate::index::{Change, IndexError};
use crate::oci::Digest;
use crate::store::{Committed, PendingRecord};

use crate::mirror::{Mirror, Registry};

/// Blobs remembered. Of more, the next start records what the index has lost.
const MAX: usize = 10_000;
/// Between looks at a count that may be wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// By digest: whom a manifest came from, and the facts about it.
type Unstored = HashMap<Digest, (Arc<Registry>, Vec<Change>)>;

#[derive(Default)]
pub(in crate::mirror) struct PendingRecords {
    waiting: Mutex<Vec<Waiting>>,
    /// Manifests that are in memory only.
    unstored: Mutex<Unstored>,
    doubt: Notify,
}

#[derive(Debug)]
struct Waiting {
    digest: Digest,
    facts: Vec<Change>,
    blob: PendingRecord,
}

impl PendingRecords {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unstored(&self) -> MutexGuard<'_, Unstored> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted may not be what is there: the index is asked soon.
    pub(in crate::mirror) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Resolves some time after there was a doubt.
    pub(in crate::mirror) async fn doubted(&self) {
        self.doubt.notified().await;
        tokio::time::sleep(PAUSE).await;
    }
}

impl Mirror {
    /// The index did not take the facts about a stored blob, or did not make them durable.
    pub(in crate::mirror) fn record_later(&self, digest: Digest, facts: Vec<Change>, committed: Committed) {
        let mut blob = committed.wait_for_index();
        let mut waiting = self.pending.waiting();
        if waiting.len() < MAX {
            waiting.push(Waiting { digest, facts, blob });
        } else {
            blob.recorded();
        }
        drop(waiting);
        self.faults_reported.notify_one();
    }

    /// Records what waits, if the index takes facts again; its own writer may have.
    pub(in crate::mirror) async fn record_what_waits(&self) -> Result<(), IndexError> {
        let mut waiting = std::mem::take(&mut *self.pending.waiting());
        if waiting.is_empty() {
            return Ok(());
        }
        let recorded = self.record(&waiting).await;
        if recorded.is_ok() {
            for Waiting { blob, .. } in waiting.drain(..) {
                blob.settled();
            }
            self.pending.doubt();
        }
        self.pending.waiting().append(&mut waiting);
        recorded
    }

    async fn record(&self, waiting: &[Waiting]) -> Result<(), IndexError> {
        // Nothing is believed of an index that has not caught up.
        self.index.durable().await?;
        for Waiting { digest, facts, .. } in waiting {
            // A file that has gone since is not recorded; one that cannot be asked for may be there.
            let is_gone = matches!(self.store.open_blob(*digest).await, Ok(None));
            if !is_gone && self.index.blob_row(*digest).await?.is_none() {
                self.index.apply(facts.clone()).await?;
            }
        }
        self.index.durable().await
    }

    /// A manifest that the disk did not take is stored when it works again, if it is in memory still.
    pub(in crate::mirror) fn store_later(&self, registry: &Arc<Registry>, digest: Digest, facts: Vec<Change>) {
        let mut unstored = self.pending.unstored();
        if unstored.len() < MAX {
            unstored.insert(digest, (Arc::clone(registry), facts));
        }
    }

    /// Whoever asks for them is answered from memory: nothing else would store them.
    pub(in crate::mirror) fn store_what_waits(self: &Arc<Self>) {
        let unstored = std::mem::take(&mut *self.pending.unstored());
        for (digest, (registry, facts)) in unstored {
            if let Some(bytes) = self.memory.content(digest) {
                let mirror = Arc::clone(self);
                self.tasks.spawn(async move { mirror.store_manifest(&registry, digest, bytes, facts).await });
            }
        }
    }

    /// Removes what a failed commit has left under a digest, where nobody has recorded it since. `false` if that is not
    /// known of all.
    pub(in crate::mirror) async fn remove_unrecorded(&self) -> bool {
        let mut is_done = true;
        for digest in self.store.unrecorded() {
            is_done &= match self.index.blob_row(digest).await {
                Ok(Some(_)) => {
                    self.store.is_recorded(digest);
                    self.pending.doubt();
                    true
                }
                Ok(None) if self.in_flight.count(digest) == 0 => {
                    self.store.remove_unrecorded(digest).await.is_ok_and(|removed| removed)
                }
                Ok(None) | Err(_) => false,
            };
        }
        is_done
    }

    /// The index counts with each row; where nothing is on its way, it is right.
    pub(in crate::mirror) async fn reconcile(&self) {
        if !self.reconciled().await {
            self.pending.doubt();
        }
    }

    async fn reconciled(&self) -> bool {
        // Between a file and its row, an eviction is at work: then it is left to the next time.
        let Ok(_permit) = self.eviction.permit.try_acquire() else { return false };
        // What is kept back is not in the sum.
        if self.health.degraded().iter().any(|(part, _)| *part == Part::Index) {
            return false;
        }
        let Some(moment) = self.store.moment() else { return false };
        let Ok(stored) = self.index.stored_bytes().await else { return false };
        let is_settled = self.store.settle(moment, stored);
        self.show_stored();
        is_settled
    }
}
