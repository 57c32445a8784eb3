//! Stored blobs that could not be read: read again, and moved away if that fails.

use std::collections::HashMap;

use super::VerifyProgress;
use super::judge::remove_record;
use super::pass::Pass;
use crate::cache::Cache;
use crate::index::BlobRow;
use crate::oci::Digest;
use crate::store::{self, FileId, QuarantineOutcome, StoredFile};

/// Reads blobs again that could not be read. `false` if the index does not say what to do with one.
pub(in crate::cache) async fn retry_unreadable(cache: &Cache) -> bool {
    let progress = VerifyProgress::default();
    let mut pass = Pass::new(cache, None, &progress);
    let mut before = HashMap::new();
    let mut is_decided = true;
    for digest in cache.store.unreadable() {
        if cache.index.blob_row(digest).await.is_err() {
            is_decided = false;
            continue;
        }
        if let Ok(Some(file_id)) = store::quarantine::look_at(&cache.store, digest).await {
            before.insert(digest, file_id);
        }
        // The index knows it, or nobody would have read it.
        let _is_there = pass.blob(StoredFile { digest, size_bytes: 0 }).await;
    }
    for digest in pass.report.unreadable {
        let Ok(row) = cache.index.blob_row(digest).await else {
            // It may be the last copy.
            is_decided = false;
            continue;
        };
        // Out of the way, so that it is stored again, though not at once where the same would happen again.
        cache.mark_uncacheable_from_all(digest);
        let is_lost = cache.is_last_copy(row.as_ref());
        if is_lost && row.as_ref().is_some_and(|row| row.origin.is_some()) {
            // The last copy stays where it is: perhaps only a cable is loose.
            continue;
        }
        // A file whose identity cannot even be read stays.
        if let Some(file_id) = before.remove(&digest) {
            move_unreadable_away(cache, digest, file_id, row, is_lost).await;
        }
    }
    is_decided
}

async fn move_unreadable_away(cache: &Cache, digest: Digest, file_id: FileId, row: Option<BlobRow>, is_lost: bool) {
    match store::quarantine::move_away(&cache.store, digest, file_id, cache.context.clock.now()).await {
        Err(err) => tracing::debug!(%digest, error = %err, "a blob that cannot be read cannot be moved away either"),
        Ok(QuarantineOutcome::Another) => cache.store.is_readable_again(digest),
        Ok(QuarantineOutcome::Away | QuarantineOutcome::Removed | QuarantineOutcome::Missing) => {
            cache.forget(digest);
            if is_lost {
                tracing::error!(%digest, "a stored blob cannot be read, and no upstream that is online can give it again: bring one back and pull it");
            }
            let size_bytes = row.as_ref().map_or(0, |row| row.size_bytes);
            remove_record(cache, digest, row, is_lost.then_some(size_bytes)).await;
        }
    }
}
