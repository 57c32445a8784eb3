//! From a committed file to a blob that is visible, durable and counted.

use std::sync::Arc;

use crate::index::{Change, IndexError};
use crate::oci::Digest;
use crate::store::{Committed, FaultKind};

use super::{Cache, describe_fault};

impl Cache {
    /// Records a committed file with what is known about it, and drops its partial name once the record is durable.
    ///
    /// Returns when the blob is visible. The rest goes on in the background; where the index takes nothing, the record
    /// waits until it does.
    pub async fn admit(self: &Arc<Self>, digest: Digest, facts: Vec<Change>, committed: Committed) {
        if self.index.apply(facts.clone()).await.is_err() {
            self.record_later(digest, facts, committed);
            return;
        }
        self.show_stored();
        // Nobody may listen.
        let _receivers = self.stored.send(digest);
        let cache = Arc::clone(self);
        self.context.tasks.spawn(async move { cache.drop_partial_name(digest, facts, committed).await });
    }

    /// Records facts about a file that was there already.
    pub(super) async fn admit_again(&self, facts: Vec<Change>) {
        // The index has logged a failure; the file is found by the next scrub.
        let _logged = self.index.apply(facts).await;
    }

    async fn drop_partial_name(&self, digest: Digest, facts: Vec<Change>, committed: Committed) {
        if self.index.durable().await.is_err() {
            self.record_later(digest, facts, committed);
        } else if let Err(err) = committed.unlink_partial().await {
            tracing::debug!(error = %err, "a partial file's name could not be removed yet");
            self.report_fault(&describe_fault(&err), 0);
        }
    }

    /// The index did not take the facts about a stored blob, or did not make them durable.
    fn record_later(&self, digest: Digest, facts: Vec<Change>, committed: Committed) {
        self.pending.push(digest, facts, committed.wait_for_index());
        self.retry_soon();
    }

    /// Records what waits, once the index takes facts again; its own writer may have recorded it.
    pub(super) async fn record_pending(&self) -> Result<(), IndexError> {
        let waiting = self.pending.facts();
        if waiting.is_empty() {
            return Ok(());
        }
        // An index that has not caught up is not believed.
        self.index.durable().await?;
        let count = waiting.len();
        for (digest, facts) in waiting {
            // A file that has gone since is not recorded; one that cannot be asked for may be there.
            let is_gone = matches!(self.store.open_blob(digest).await, Ok(None));
            if !is_gone && self.index.blob_row(digest).await?.is_none() {
                self.index.apply(facts).await?;
            }
        }
        self.index.durable().await?;
        for record in self.pending.take(count) {
            self.store.count_as_recorded(record.digest);
            record.blob.durable();
        }
        Ok(())
    }

    /// Removes files that a failed commit has left under a digest, where nobody has recorded them since. `false` if some
    /// could not be decided.
    pub(super) async fn remove_unrecorded(&self) -> bool {
        let mut is_done = true;
        for (digest, partial) in self.store.unrecorded() {
            is_done &= match self.index.current_blob_row(digest).await {
                Ok(Some(_)) => {
                    self.store.faults().remove(FaultKind::Unrecorded, partial.as_path());
                    true
                }
                Ok(None) if self.leases.count(digest) == 0 => {
                    self.store.remove_unrecorded(digest, &partial).await.is_ok_and(|removed| removed)
                }
                Ok(None) | Err(_) => false,
            };
        }
        is_done
    }
}
