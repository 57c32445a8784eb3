//! How many bytes are held, and for whom. The number is the index's, told with each change ([`crate::index::StoredBytes`]), and
//! what is on its way in and out, which the store adds under one lock.

use std::collections::HashMap;

use crate::index::{Counts, IndexError};
use crate::metrics::ByAuthority;
use crate::oci::Authority;
use crate::store::SpaceLimits;

use super::{Cache, RegistryFacts};

/// How much of its own `max_size` an upstream's content takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quota {
    /// The upstream, as it is configured.
    pub upstream: String,
    /// Bytes of its blobs, running downloads, and rows of the index.
    pub used_bytes: u64,
    /// Its own `max_size`. Bytes.
    pub max_size: u64,
}

impl Cache {
    /// Upstreams that have a quota of their own, in alphabetical order.
    pub fn quotas(&self) -> Vec<Quota> {
        let mut quotas = Vec::new();
        for (authority, facts) in self.registries.configured() {
            if let Some(max_size) = facts.max_size {
                let used_bytes = self.used_of(&authority, &facts);
                quotas.push(Quota { upstream: facts.name, used_bytes, max_size });
            }
        }
        quotas.sort_by(|a, b| a.upstream.cmp(&b.upstream));
        quotas
    }

    /// What counts towards the limit of a registry: its content, and, where it has a limit of its own, its rows of the index.
    /// Bytes.
    pub(super) fn used_of(&self, authority: &Authority, registry: &RegistryFacts) -> u64 {
        self.store.used_by(authority).saturating_add(self.row_bytes(registry))
    }

    /// What rows of the index take of a registry's own limit: no more than half, because what goes for them makes them no
    /// fewer. Bytes.
    pub(super) fn row_bytes(&self, registry: &RegistryFacts) -> u64 {
        registry.max_size.map_or(0, |quota| self.index.row_bytes(&registry.name).min(quota / 2))
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

    /// Takes the index, which grows by itself, into the count of used bytes.
    pub(super) async fn count_index(&self) {
        // One that cannot be asked counts as before.
        if let Ok(bytes) = self.index.bytes_on_disk().await {
            self.store.count_index(bytes);
        }
    }

    /// Bytes of blobs, partial files, the quarantine and what counts of the index now.
    pub fn used_bytes(&self) -> u64 {
        self.store.used_bytes()
    }

    /// Bytes of blobs by the upstream that they can come from again, as it is configured.
    pub fn used_by_upstream(&self) -> HashMap<String, u64> {
        let mut by_label: HashMap<String, u64> = HashMap::new();
        for (authority, bytes) in self.store.stored_by() {
            *by_label.entry(self.label(&authority)).or_default() += bytes;
        }
        by_label
    }

    pub(super) fn show_stored(&self) {
        self.context.metrics.stored_bytes.set(self.store.used_bytes());
    }

    pub(super) async fn show_usage(&self) {
        let metrics = &self.context.metrics;
        metrics.used_bytes.clear();
        for (authority, bytes) in self.used_by_upstream() {
            metrics.used_bytes.get_or_create(&ByAuthority { authority }).set(bytes);
        }
        if let Ok(pinned) = self.index.pinned_bytes().await {
            metrics.pinned_bytes.set(pinned);
        }
        self.show_stored();
    }
}
