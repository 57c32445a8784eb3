//! Blobs that imports brought and that nothing names: those of this one, and of one that was cut.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::index::{Candidate, ungranted};
use crate::mirror::Mirror;
use crate::oci::Digest;
use crate::store::staged;

/// Blobs that wait for another part of their bundle stay so long.
const PATIENCE: Duration = Duration::from_hours(30 * 24);

/// Removes what no item needs. `needed` are those of items that were recorded, or wait for other parts.
pub(super) async fn remove(mirror: &Arc<Mirror>, clock: &Clock, needed: &HashSet<Digest>) {
    let cache = mirror.cache();
    let listed = match staged::list(&cache.store).await {
        Ok(listed) => listed,
        Err(err) => return tracing::warn!(error = %err, "the list of imported blobs cannot be read"),
    };
    if listed.is_empty() {
        return;
    }
    let since = clock.now().before(PATIENCE);
    let Ok(unnamed) = ungranted(&cache.index, listed.keys().copied().collect()).await else { return };
    let is_waiting = |digest: &Digest| needed.contains(digest) && listed.get(digest).is_some_and(|at| *at > since);
    let going: Vec<Digest> = unnamed.iter().copied().filter(|digest| !is_waiting(digest)).collect();
    // Those of an import that still reads are leased, and stay.
    let mut candidates = Vec::new();
    for digest in &going {
        if let Ok(Some(row)) = cache.index.blob_row(*digest).await {
            candidates.push(Candidate { digest: *digest, size_bytes: row.size_bytes, authority: String::new() });
        }
    }
    let (removed, _bytes) = mirror.evictor().remove(candidates).await.unwrap_or_default();
    if removed > 0 {
        tracing::info!(blobs = removed, "blobs that imports brought and that no image needs were removed");
    }
    let mut settled: HashSet<Digest> = listed.keys().copied().filter(|digest| !unnamed.contains(digest)).collect();
    for digest in going {
        if matches!(cache.index.blob_row(digest).await, Ok(None)) {
            settled.insert(digest);
        }
    }
    if let Err(err) = staged::forget(&cache.store, settled.into_iter().collect()).await {
        tracing::warn!(error = %err, "the list of imported blobs cannot be written");
    }
}
