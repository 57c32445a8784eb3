//! A disk that fails: reported to the operator, tried again, and put in order when it works. Pulls go on meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::health::Part;
use crate::oci::Digest;
use crate::store;

use super::retention::Evictor;
use super::{Cache, scrub};

/// Between two tries of a disk that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// After a disk failed or was full, a digest is passed through for so long before storing is tried again.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(30);
/// Digests remembered that could not be stored.
const MAX_UNCACHEABLE: u64 = 10_000;

/// What the disk refused, and the wake-up calls of the task that tries it again.
pub struct Faults {
    /// Something went wrong, and waits to be put in order.
    reported: Notify,
    /// A blob was stored although the disk was thought to fail.
    cleared: Notify,
    /// Digests that could not be stored, and since when.
    uncacheable: moka::sync::Cache<Digest, Timestamp>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { reported: Notify::new(), cleared: Notify::new(), uncacheable: moka::sync::Cache::new(MAX_UNCACHEABLE) }
    }
}

impl Faults {
    /// A stored file could not be read. It is read again soon, and fetched again at the next request.
    pub fn retry_soon(&self) {
        self.reported.notify_one();
    }

    /// From here on, this digest is passed through for a while.
    pub fn mark_uncacheable(&self, digest: Digest, now: Timestamp) {
        self.uncacheable.insert(digest, now);
    }

    /// Whether this digest is passed through because it could not be stored a moment ago.
    pub fn is_uncacheable(&self, digest: Digest, now: Timestamp) -> bool {
        self.uncacheable.get(&digest).is_some_and(|since| now.since(since) < UNCACHEABLE_FOR)
    }
}

impl Cache {
    /// Something of so many bytes could not be written; `why` is for the operator. If the disk is full, room is made for
    /// the next request.
    pub fn report_fault(&self, why: &str, size_bytes: u64) {
        self.store.disk_refused(size_bytes);
        let why = format!("{why}; blobs are passed through without storing them until it works again");
        if self.context.health.degrade(Part::StoreWrites, why.as_str()) {
            tracing::warn!("{why}");
        }
        self.faults.retry_soon();
    }

    /// A blob was stored: the disk works.
    pub fn clear_fault(&self) {
        if self.context.health.heal(Part::StoreWrites) {
            tracing::info!("the disk works again");
            // What could not be stored can be now.
            self.faults.uncacheable.invalidate_all();
            self.faults.cleared.notify_one();
            self.pending.doubt();
        }
    }
}

/// What the disk refused, for the operator.
pub fn describe_fault(error: &io::Error) -> String {
    let what = if store::is_no_space(error) { "the disk is full" } else { "the disk failed" };
    format!("{what} ({error})")
}

/// Waits for a fault, tries the disk until it works, and puts in order what was left; until the mirror stops.
pub async fn retry_faults(evictor: Arc<Evictor>) {
    let (cache, stopping) = (evictor.cache(), &evictor.cache().context.stopping);
    loop {
        tokio::select! {
            () = cache.faults.reported.notified() => {}
            () = stopping.cancelled() => return,
        }
        loop {
            tokio::select! {
                is_done = retry(&evictor) => if is_done { break },
                () = stopping.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = cache.faults.cleared.notified() => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

/// One try. `false` if something is left to be put in order.
async fn retry(evictor: &Arc<Evictor>) -> bool {
    let cache = evictor.cache();
    let works = async {
        cache.store.probe().await?;
        // Makes names orphans, which are removed then.
        let recorded = cache.record_pending().await;
        cache.store.tidy().await?;
        recorded.map_err(io::Error::other)
    };
    if let Err(err) = works.await {
        tracing::debug!(%err, "the disk does not work yet");
        return false;
    }
    cache.clear_fault();
    store_manifests(evictor);
    let is_decided = scrub::retry_unreadable(cache).await;
    let is_clean = cache.remove_unrecorded().await && is_decided;
    cache.show_stored();
    is_clean
}

/// Stores manifests that the disk did not take. Requests for them are answered from memory: nothing else would store them.
fn store_manifests(evictor: &Arc<Evictor>) {
    let cache = evictor.cache();
    for (digest, (origin, facts)) in cache.pending.take_unstored() {
        if let (Some(bytes), Some(registry)) = (cache.memory.content(digest), cache.registries.facts(&origin)) {
            let evictor = Arc::clone(evictor);
            cache.context.tasks.spawn(async move { evictor.store((&origin, &registry), digest, bytes, facts).await });
        }
    }
}
