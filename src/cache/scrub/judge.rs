//! What becomes of stored bytes that are wrong: quarantine, then a refetch, or lost.

use crate::health::Part;
use crate::index::{BlobRow, Change, IndexError, PutUnrecoverable, RemoveMissing, Unrecoverable};
use crate::oci::Digest;
use crate::store::{self, FileId, QuarantineOutcome};

use crate::cache::Cache;

/// What became of a blob whose bytes were wrong, or whose file is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is fetched again at the next request.
    Refetch,
    /// No upstream can give it again.
    Lost,
    /// It had been fetched again, and stays.
    Another,
    /// The index does not say which. It is not served, and looked at again soon.
    Withheld,
}

/// Takes a stored blob whose bytes were seen to be wrong out of reach: file first, record second.
pub async fn take_out(cache: &Cache, digest: Digest, file_id: FileId) -> Judgement {
    let row = match cache.index.current_blob_row(digest).await {
        Ok(row) => row,
        Err(err) => return withhold(cache, digest, &err),
    };
    let is_lost = cache.is_last_copy(row.as_ref());
    let judgement = if is_lost { Judgement::Lost } else { Judgement::Refetch };
    let size_bytes = row.as_ref().map_or(file_id.size_bytes(), |row| row.size_bytes);
    let health = &cache.context.health;
    let outcome = store::quarantine::move_away(&cache.store, digest, file_id, cache.context.clock.now()).await;
    if matches!(outcome, Ok(QuarantineOutcome::Another)) {
        return Judgement::Another;
    }
    cache.context.metrics.damaged_blobs.inc();
    cache.forget(digest);
    let became = match outcome {
        Ok(QuarantineOutcome::Removed) => "they could not be moved to quarantine, and are removed",
        Ok(QuarantineOutcome::Missing) => "somebody has removed them",
        Ok(QuarantineOutcome::Away | QuarantineOutcome::Another) => "they are in quarantine",
        Err(err) => {
            tracing::error!(%digest, error = %err, "stored bytes are wrong and cannot be moved away; they are not served");
            cache.store.mark_known_bad(digest);
            health.degrade(Part::Verify, "stored bytes are wrong and cannot be moved away: see the log");
            return judgement;
        }
    };
    remove_record(cache, digest, row, is_lost.then_some(size_bytes)).await;
    if is_lost {
        tracing::error!(%digest, "stored bytes were wrong; {became}; no upstream that is online can give them again: bring one back and pull them");
    } else {
        tracing::warn!(%digest, "stored bytes were wrong; {became}, and fetched again when asked for");
    }
    health.degrade(Part::Verify, "stored bytes were wrong: look after the disk, then run a verify that finds nothing");
    judgement
}

/// Should another file have its name by now, reading that again will tell.
fn withhold(cache: &Cache, digest: Digest, err: &IndexError) -> Judgement {
    tracing::error!(%digest, error = %err,
        "stored bytes are wrong; they are not served, and are moved away when the index can be read again");
    cache.forget(digest);
    cache.store.mark_known_bad(digest);
    cache.context.health.degrade(Part::Verify, "stored bytes are wrong and were not moved away yet: see the log");
    cache.retry_soon();
    Judgement::Withheld
}

/// Looks for the file of a recorded blob that a listing did not show. `None` if it is there, or if the record has gone too.
///
/// # Errors
///
/// The disk does not say whether it is there.
pub(super) async fn look_for(cache: &Cache, digest: Digest) -> std::io::Result<Option<Judgement>> {
    // An eviction removes the file first. Between the two, the record says nothing.
    let _permit = cache.evicting.acquire().await;
    let Ok(Some(row)) = cache.index.blob_row(digest).await else { return Ok(None) };
    if store::quarantine::look_at(&cache.store, digest).await?.is_some() {
        return Ok(None);
    }
    let judgement = take_missing(cache, digest, row).await;
    if judgement != Judgement::Lost {
        tracing::warn!(%digest, "a stored blob is missing; it is fetched again when asked for");
    }
    let why = "stored blobs are missing: look after the disk, then run a verify that finds nothing";
    cache.context.health.degrade(Part::Verify, why);
    Ok(Some(judgement))
}

/// The file of a recorded blob is not there: the record goes. A last copy is written down as lost.
pub(in crate::cache) async fn take_missing(cache: &Cache, digest: Digest, row: BlobRow) -> Judgement {
    cache.forget(digest);
    if !cache.is_last_copy(Some(&row)) {
        // The index has logged a failure; the record is a miss all the same.
        let _logged = cache.index.apply(vec![Change::from(RemoveMissing { digest, row })]).await;
        return Judgement::Refetch;
    }
    let size_bytes = row.size_bytes;
    remove_record(cache, digest, Some(row), Some(size_bytes)).await;
    tracing::error!(%digest, "a stored blob is missing, and no upstream that is online can give it again: bring one back and pull it");
    Judgement::Lost
}

/// The file is in quarantine, or missing: its record goes, unless the blob was stored again since. A blob that is lost is
/// written down with its size.
pub(in crate::cache) async fn remove_record(
    cache: &Cache,
    digest: Digest,
    row: Option<BlobRow>,
    lost_bytes: Option<u64>,
) {
    if row.is_none() {
        cache.store.count_as_recorded(digest);
    }
    let mut changes: Vec<Change> = row.map(|row| Change::from(RemoveMissing { digest, row })).into_iter().collect();
    if let Some(size_bytes) = lost_bytes {
        let row = Unrecoverable { size_bytes, found: cache.context.clock.now() };
        changes.push(Change::from(PutUnrecoverable { digest, row }));
    }
    // The index has logged a failure; a record without a file is a miss.
    let _logged = cache.index.apply_durably(changes).await;
    cache.show_stored();
}
