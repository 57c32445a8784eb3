//! Rows of the index: those of one upstream have a bound, as names and tags can be made up without end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::{Cache, RegistryFacts};
use crate::index::{RowOwner, RowSum, drop_rows, measure_rows};

/// Most that the rows of one upstream take: those of about a hundred thousand images. Bytes.
const MOST: u64 = 512 * 1024 * 1024;
/// Least, where the storage is small. Bytes.
const LEAST: u64 = 16 * 1024 * 1024;
/// The same where the upstream has a `max_size` of its own. Bytes.
const LEAST_OF_QUOTA: u64 = 1024 * 1024;
/// Between two measurings where nothing has many rows.
const PAUSE: Duration = Duration::from_hours(1);
/// Measuring takes at most this part of the time: one in so many.
const SHARE: u32 = 10;

/// Most that the rows of an upstream take: a sixteenth of the storage, and a quarter of its own `max_size`. Bytes.
fn bound_of(registry: &RegistryFacts, max_size: Option<u64>) -> u64 {
    let of_storage = max_size.map_or(MOST, |max| (max / 16).clamp(LEAST, MOST));
    registry.max_size.map_or(of_storage, |quota| (quota / 4).max(LEAST_OF_QUOTA).min(of_storage))
}

/// Bounds the rows of each upstream that is asked for more.
pub(in crate::cache) fn bound_rows(cache: &Cache) {
    let (registries, max_size) = (Arc::clone(&cache.registries), cache.limits().max_size);
    cache.index.bound_rows(move |authority| {
        let registry = registries.facts(authority).filter(|registry| !registry.is_offline)?;
        Some(RowOwner { bound: bound_of(&registry, max_size), upstream: registry.name })
    });
}

/// Keeps the rows of each upstream within its bound, until the mirror stops.
pub async fn run_rows(cache: Arc<Cache>) {
    let work = async {
        loop {
            let began = Instant::now();
            drop_surplus_rows(&cache).await;
            let rest = (began.elapsed() * SHARE).max(Duration::from_millis(100));
            tokio::time::sleep(rest).await;
            tokio::select! {
                () = cache.index.rows_crowded() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cache.context.stopping.cancelled() => {}
    }
}

/// Where an upstream's rows are near their bound, those that were not used for longest go, down to three quarters of it.
async fn drop_surplus_rows(cache: &Cache) {
    let Cache { index, pins, .. } = cache;
    // The index has logged a failure.
    let Ok(sums) = measure_rows(index).await else { return };
    for (upstream, RowSum { bytes, bound }) in sums {
        if bytes <= bound / 8 * 7 || !pins.are_known(index) {
            continue;
        }
        match drop_rows(index, &upstream, bound / 4 * 3).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(
                authority = upstream,
                bytes,
                bound,
                "the least used names, tags and grants of an upstream were dropped: it had too many"
            ),
            Err(err) => tracing::debug!(error = %err, "rows of the index could not be dropped"),
        }
    }
}
