//! A disk that fails: told to the operator, waited for, and put in order when it works again. Pulls go on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::health::Part;

use crate::mirror::Mirror;

/// Between two looks at a disk that failed.
const PAUSE: Duration = Duration::from_secs(2);

impl Mirror {
    /// Something of so many bytes could not be written; `why` is for the operator. If the disk is full, room is made for
    /// the next one who asks.
    pub(in crate::mirror) fn disk_failed(&self, why: &str, size_bytes: u64) {
        self.store.disk_refused(size_bytes);
        let why = format!("{why}; blobs are passed through without storing them until it works again");
        if self.health.degrade(Part::StoreWrites, why.as_str()) {
            tracing::warn!("{why}");
        }
        self.faults_reported.notify_one();
    }

    /// A blob was stored.
    pub(in crate::mirror) fn disk_works(&self) {
        if self.health.heal(Part::StoreWrites) {
            tracing::info!("the disk works again");
            // What could not be stored can be now.
            self.uncacheable.invalidate_all();
            self.faults_cleared.notify_one();
            self.pending.doubt();
        }
    }

    /// A stored file could not be read. It is read again soon, and fetched again at the next request.
    pub(in crate::mirror) fn retry_soon(&self) {
        self.faults_reported.notify_one();
    }

    /// Waits for trouble, tries the disk until it works, and puts in order what was left. For ever.
    pub async fn retry_faults(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.faults_reported.notified() => {}
                () = self.stopping.cancelled() => return,
            }
            loop {
                tokio::select! {
                    mended = self.mended() => if mended { break },
                    () = self.stopping.cancelled() => return,
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = self.faults_cleared.notified() => {}
                    () = self.stopping.cancelled() => return,
                }
            }
        }
    }

    async fn mended(self: &Arc<Self>) -> bool {
        let works = async {
            self.store.probe().await?;
            // Makes names strays, which are removed then.
            let recorded = self.record_what_waits().await;
            self.store.tidy().await?;
            recorded.map_err(std::io::Error::other)
        };
        if let Err(err) = works.await {
            tracing::debug!(%err, "the disk does not work yet");
            return false;
        }
        self.disk_works();
        self.store_what_waits();
        let is_decided = self.look_again().await;
        let is_clean = self.remove_unrecorded().await && is_decided;
        self.show_stored();
        is_clean
    }
}
