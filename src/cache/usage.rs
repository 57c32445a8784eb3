//! How many bytes are held, and for whom.

use std::collections::HashMap;

use crate::health::Part;
use crate::index::{Counts, IndexError};
use crate::metrics::ByAuthority;
use crate::oci::Authority;
use crate::store::SpaceLimits;

use super::Cache;

/// How much of its own `max_size` an upstream's content takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quota {
    /// The upstream, as it is configured.
    pub upstream: String,
    /// Bytes of its blobs and running downloads.
    pub used_bytes: u64,
    /// Its own `max_size`. Bytes.
    pub max_size: u64,
}

impl Cache {
    /// Upstreams that have a quota of their own, in alphabetical order.
    pub async fn quotas(&self) -> Vec<Quota> {
        let mut quotas = Vec::new();
        for (authority, facts) in self.registries.configured() {
            if let Some(max_size) = facts.max_size {
                let used_bytes = self.bytes_of(&authority).await;
                quotas.push(Quota { upstream: facts.name, used_bytes, max_size });
            }
        }
        quotas.sort_by(|a, b| a.upstream.cmp(&b.upstream));
        quotas
    }

    /// Bytes that pins keep.
    pub async fn pinned_bytes(&self) -> Result<u64, IndexError> {
        self.index.pinned_bytes().await
    }

    /// What the storage may take.
    pub fn limits(&self) -> SpaceLimits {
        self.store.limits()
    }

    /// How many facts there are.
    pub async fn counts(&self) -> Result<Counts, IndexError> {
        self.index.counts().await
    }

    /// Bytes of blobs, partial files and the quarantine now.
    pub fn used_bytes(&self) -> u64 {
        self.store.used_bytes()
    }

    /// Bytes that a registry takes of its quota: recorded blobs, partial files, and blobs on their way into the index.
    pub(super) async fn bytes_of(&self, authority: &Authority) -> u64 {
        let uncounted = self.store.uncounted_bytes(authority);
        self.index.stored_by(authority.as_str()).await.unwrap_or(0).saturating_add(uncounted)
    }

    pub(super) fn show_stored(&self) {
        self.context.metrics.stored_bytes.set(self.store.used_bytes());
    }

    pub(super) async fn show_usage(&self) {
        let metrics = &self.context.metrics;
        let mut by_label: HashMap<String, u64> = HashMap::new();
        for (authority, bytes) in self.index.stored_by_authority().await.unwrap_or_default() {
            *by_label.entry(self.label(&authority)).or_default() += bytes;
        }
        metrics.used_bytes.clear();
        for (authority, bytes) in by_label {
            metrics.used_bytes.get_or_create(&ByAuthority { authority }).set(bytes);
        }
        if let Ok(pinned) = self.index.pinned_bytes().await {
            metrics.pinned_bytes.set(pinned);
        }
        self.show_stored();
    }

    /// Believes the index's sum, where nothing is on its way.
    pub(super) async fn reconcile(&self) {
        if !self.reconciled().await {
            self.pending.doubt();
        }
    }

    async fn reconciled(&self) -> bool {
        // Between a file and its record, an eviction is at work: then it is left to the next time.
        let Ok(_permit) = self.evicting.try_acquire() else { return false };
        // The sum leaves out what waits for the index.
        if self.context.health.degraded().iter().any(|(part, _)| *part == Part::Index) {
            return false;
        }
        let Some(moment) = self.store.moment() else { return false };
        let Ok(stored) = self.index.stored_bytes().await else { return false };
        let is_settled = self.store.settle(moment, stored);
        self.show_stored();
        is_settled
    }
}
