//! A disk that fails: reported to the operator, tried again, and put in order when it works. Pulls go on meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::health::Part;
use crate::oci::{Authority, Digest};
use crate::store::{self, FaultKind};

use super::retention::Evictor;
use super::{Cache, scrub};

/// Between two tries of a disk that failed.
const PAUSE: Duration = Duration::from_secs(2);

impl Cache {
    /// Something of so many bytes could not be written; `why` is for the operator. If the disk is full, room is made for
    /// the next request.
    pub fn report_fault(&self, why: &str, size_bytes: u64) {
        self.store.disk_refused(size_bytes);
        let why = format!("{why}; blobs are passed through without storing them until it works again");
        if self.context.health.degrade(Part::StoreWrites, why.as_str()) {
            tracing::warn!("{why}");
        }
        self.retry_soon();
    }

    /// A blob was stored: the disk works.
    pub fn clear_fault(&self) {
        if self.context.health.heal(Part::StoreWrites) {
            tracing::info!("the disk works again");
            // What could not be stored can be now.
            self.store.faults().clear(FaultKind::Uncacheable);
        }
    }

    /// Something waits to be put in order: the disk is tried now, or when the pause between two tries is over.
    pub fn retry_soon(&self) {
        self.has_faults.notify_one();
    }

    /// From here on, what this registry gives of the digest is passed through for a while.
    pub fn mark_uncacheable(&self, authority: &Authority, digest: Digest) {
        self.store.faults().add_now(FaultKind::Uncacheable, (authority, digest), self.context.clock.now());
    }

    /// From here on, the digest is passed through for a while, whoever gives it: its place on the disk is bad.
    pub fn mark_uncacheable_from_all(&self, digest: Digest) {
        self.store.faults().add_now(FaultKind::Uncacheable, digest, self.context.clock.now());
    }

    /// Whether what this registry gives of the digest is passed through because it could not be stored a moment ago.
    pub fn is_uncacheable(&self, authority: &Authority, digest: Digest) -> bool {
        let (faults, now) = (self.store.faults(), self.context.clock.now());
        faults.contains(FaultKind::Uncacheable, (authority, digest), now)
            || faults.contains(FaultKind::Uncacheable, digest, now)
    }
}

/// What the disk refused, for the operator.
pub fn describe_fault(error: &io::Error) -> String {
    let what = if store::is_no_space(error) { "the disk is full" } else { "the disk failed" };
    format!("{what} ({error})")
}

/// Waits for a fault, tries the disk until it works, and puts in order what was left; until the mirror stops.
pub async fn retry_faults(evictor: Arc<Evictor>) {
    let cache = evictor.cache();
    let work = async {
        loop {
            cache.has_faults.notified().await;
            while !retry(&evictor).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cache.context.stopping.cancelled() => {}
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
        tracing::debug!(error = %err, "the disk does not work yet");
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
            cache.context.tasks.spawn(async move {
                evictor.store((&origin, &registry), digest, bytes, facts, true).await;
            });
        }
    }
}
