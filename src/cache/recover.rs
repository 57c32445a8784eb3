//! What a crash left between any two steps, put in order at the start; and what a stop writes down.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::index::{BlobRow, Change, EndEviction, IndexError, PutBlob};
use crate::metrics::ByAuthority;
use crate::oci::Digest;
use crate::store::{self, Leftover, Store};

use super::retention::bound_rows;
use super::{Cache, scrub};

/// Why a storage could not be put in order.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("what an earlier run left in the storage cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Reads what a crash left between any two steps of a commit. Its time grows with the number of partial files.
pub async fn recover(cache: &Arc<Cache>) -> Result<(), RecoverError> {
    cache.blocks.load(&cache.index).await?;
    end_evictions(cache).await?;
    cache.access_times.detect_clock_set_back(&cache.index).await;
    let (mut changes, mut names): (Vec<Change>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    let mut resumable = 0_u32;
    for leftover in blocking(cache, store::recovery::recover).await?? {
        match leftover {
            Leftover::Resumable => resumable += 1,
            Leftover::Committed { digest, size_bytes, partial } => {
                let origin = partial.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
                let origin = origin.filter(|name| *name != store::staged::NOWHERE).and_then(|name| name.parse().ok());
                let row = BlobRow { size_bytes, origin, stored: cache.access_time() };
                changes.push(Change::from(PutBlob { digest, row }));
                names.push(partial);
            }
        }
    }
    if resumable > 0 {
        tracing::info!(downloads = resumable, "interrupted downloads will go on from where they were");
    }
    if !changes.is_empty() {
        tracing::info!(blobs = names.len(), "blobs that were stored but not recorded are recorded now");
        cache.index.apply_durably(changes).await?;
        blocking(cache, move |_| names.iter().try_for_each(|name| store::recovery::forget_partial(name))).await??;
    }
    remove_records_of_quarantined(cache).await?;
    let counter = cache.store.record_counter();
    cache.index.on_stored(move |stored| counter.record(&stored.by_registry, &stored.put, &stored.removed)).await?;
    bound_rows(cache);
    cache.count_index().await;
    cache.show_stored();
    Ok(())
}

/// A crash may have come between a wrong file's move and the end of its record, which then counts what is not there.
async fn remove_records_of_quarantined(cache: &Arc<Cache>) -> Result<(), RecoverError> {
    let look = |store: &Store| {
        let quarantined = store::quarantine::list(store).unwrap_or_else(|err| {
            tracing::warn!(error = %err, "what is in quarantine cannot be listed");
            Vec::new()
        });
        let digests = quarantined.into_iter().map(|(digest, _)| digest);
        digests.filter(|digest| !store.is_there(*digest)).collect::<Vec<Digest>>()
    };
    for digest in blocking(cache, look).await? {
        if let Some(row) = cache.index.blob_row(digest).await? {
            let lost_bytes = cache.is_last_copy(Some(&row)).then_some(row.size_bytes);
            scrub::remove_record(cache, digest, Some(row), lost_bytes).await;
        }
    }
    Ok(())
}

/// Blobs that were being evicted: those whose files are gone are forgotten; the others stay.
async fn end_evictions(cache: &Arc<Cache>) -> Result<(), RecoverError> {
    let marked = cache.index.evicting().await?;
    if marked.is_empty() {
        return Ok(());
    }
    let look = move |store: &Store| marked.into_iter().partition(|digest| store.is_there(*digest));
    let (there, gone) = blocking(cache, look).await?;
    let ends = [(there, false), (gone, true)].map(|(digests, gone)| Change::from(EndEviction { digests, gone }));
    Ok(cache.index.apply_durably(ends.to_vec()).await?)
}

/// Whether the last server of this storage ended in good order. From here on, this one has not.
pub async fn begin_service(cache: &Arc<Cache>) -> bool {
    // A counter that appears with its first event hides that one from an alert on a rise.
    let metrics = &cache.context.metrics;
    metrics.max_size.set(cache.limits().max_size.unwrap_or(0));
    for (_, facts) in cache.registries.configured() {
        let labels = ByAuthority::of(&facts.name);
        if let Some(max_size) = facts.max_size {
            metrics.quota.get_or_create(&labels).set(max_size);
        }
        for watched in [&metrics.uncached_streams, &metrics.reservations_refused, &metrics.digest_mismatches] {
            drop(watched.get_or_create(&labels));
        }
    }
    let was_clean = blocking(cache, store::recovery::take_clean_stop).await;
    // An unreadable sign is none.
    was_clean.is_ok_and(|was_clean| was_clean.unwrap_or(false))
}

/// Writes the index down, and leaves open how the last server has ended. For commands, which have not served.
pub async fn leave(cache: &Cache) {
    cache.access_times.write(&cache.index).await;
    cache.index.close().await;
}

/// Writes the index down. To be called after all tasks have ended.
pub async fn close(cache: &Arc<Cache>) {
    leave(cache).await;
    if let Ok(Err(err)) = blocking(cache, store::recovery::record_clean_stop).await {
        tracing::debug!(error = %err, "the next start takes this stop for an unclean one");
    }
}

async fn blocking<T: Send + 'static>(
    cache: &Arc<Cache>,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> io::Result<T> {
    let cache = Arc::clone(cache);
    tokio::task::spawn_blocking(move || work(&cache.store)).await.map_err(io::Error::other)
}
