//! What is read again without being asked: everything now and then, and what is in doubt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pass::Pass;
use super::{VerifyProgress, VerifySettings};
use crate::clock::Timestamp;
use crate::mirror::Mirror;
use crate::store::{QuarantineOutcome, Store, StoredFile};

/// What is looked at first after an unclean stop: stored so long before it.
const LATELY: Duration = Duration::from_mins(10);

/// Where a pass of the background is, kept in the storage.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ScrubCursor {
    begun: Timestamp,
    shard: usize,
}

impl Mirror {
    /// After an unclean stop, what was stored shortly before it; then a pass every so often. For ever.
    pub async fn run_scrub(self: Arc<Self>, settings: VerifySettings, was_clean: bool) {
        if !was_clean {
            tokio::select! {
                () = self.verify_lately() => {}
                () = self.stopping.cancelled() => return,
            }
        }
        let Some(every) = settings.every else { return };
        let mut cursor =
            self.store.read_scrub_cursor().await.and_then(|note| serde_json::from_slice::<ScrubCursor>(&note).ok());
        loop {
            let now = self.clock.now();
            // A beginning that lies ahead is one from before the clock was set back.
            let waits = cursor.filter(|cursor| cursor.shard >= Store::SHARDS && cursor.begun <= now);
            let due = waits.map_or(Duration::ZERO, |cursor| every.saturating_sub(now.since(cursor.begun)));
            tokio::select! {
                // Looked at now and then, because clocks are set.
                () = tokio::time::sleep(due.min(Duration::from_hours(1))) => {}
                () = self.stopping.cancelled() => return,
            }
            if due > Duration::from_hours(1) {
                continue;
            }
            let resumed = cursor.filter(|cursor| cursor.shard < Store::SHARDS);
            let Some(done) = self.pass(settings.rate, resumed).await else { return };
            cursor = Some(done);
        }
    }

    /// One pass in the background, from where the last one was; `None` at shutdown.
    async fn pass(&self, rate: Option<u64>, resumed: Option<ScrubCursor>) -> Option<ScrubCursor> {
        let mut cursor = resumed.unwrap_or(ScrubCursor { begun: self.clock.now(), shard: 0 });
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(rate, &progress);
        while cursor.shard < Store::SHARDS {
            let went_on = tokio::select! {
                went_on = self.verify_shard(cursor.shard, &mut pass) => went_on,
                () = self.stopping.cancelled() => false,
            };
            if !went_on {
                return None;
            }
            cursor.shard += 1;
            if let Ok(note) = serde_json::to_vec(&cursor)
                && let Err(err) = self.store.write_scrub_cursor(note).await
            {
                tracing::debug!(%err, "where verify is could not be noted: after a restart it begins anew");
            }
        }
        let report = &pass.report;
        tracing::info!(
            blobs = report.blobs,
            bytes = report.bytes,
            wrong = report.wrong.len(),
            "verified what is stored"
        );
        self.tell_verified(report);
        Some(cursor)
    }

    async fn verify_lately(&self) {
        let lately = match self.store.stored_lately(LATELY, self.clock.now()).await {
            Ok(lately) => lately,
            Err(err) => {
                tracing::warn!(%err, "what was stored before the unclean stop cannot be found");
                return;
            }
        };
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(None, &progress);
        for found in lately {
            if self.stopping.is_cancelled() {
                return;
            }
            self.verify_blob(found, &mut pass).await;
        }
        self.record_unknown(&mut pass).await;
        let report = &pass.report;
        if report.blobs > 0 {
            tracing::info!(
                blobs = report.blobs,
                wrong = report.wrong.len(),
                recorded = report.recorded,
                "the last stop was unclean; what was stored shortly before it is verified"
            );
        }
    }

    /// Reads those again whose reading failed. `false` if the index does not say what to do with one.
    pub(in crate::mirror) async fn look_again(&self) -> bool {
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(None, &progress);
        let mut before = HashMap::new();
        let mut is_decided = true;
        for digest in self.store.unreadable() {
            if self.index.blob_row(digest).await.is_err() {
                is_decided = false;
                continue;
            }
            if let Ok(Some(file_id)) = self.store.look_at(digest).await {
                before.insert(digest, file_id);
            }
            // Known to the index, or nobody would have read it.
            self.verify_blob(StoredFile { digest, size_bytes: 0 }, &mut pass).await;
        }
        for digest in pass.report.unreadable {
            let Ok(row) = self.index.blob_row(digest).await else {
                // It may be the last copy.
                is_decided = false;
                continue;
            };
            // Out of the way, so that it is stored again, though not at once where the same would happen again.
            self.uncacheable.insert(digest, self.clock.now());
            let is_lost = self.is_last_copy(row.as_ref());
            if is_lost && row.as_ref().is_some_and(|row| row.origin.is_some()) {
                // The last copy, and perhaps only a cable is loose: it stays where it is.
                continue;
            }
            // One that does not even say which file it is stays.
            let Some(file_id) = before.remove(&digest) else { continue };
            match self.store.quarantine(digest, file_id, self.clock.now()).await {
                Err(err) => tracing::debug!(%digest, %err, "a blob that cannot be read cannot be moved away either"),
                Ok(QuarantineOutcome::Another) => self.store.is_readable_again(digest),
                Ok(QuarantineOutcome::Away | QuarantineOutcome::Removed | QuarantineOutcome::Missing) => {
                    self.forget_in_memory(digest);
                    if is_lost {
                        tracing::error!(%digest, "a stored blob cannot be read, and no upstream that is online can give it again: bring one back and pull it");
                    }
                    let size_bytes = row.as_ref().map_or(0, |row| row.size_bytes);
                    self.forget_taken(digest, row, is_lost.then_some(size_bytes)).await;
                }
            }
        }
        is_decided
    }
}
