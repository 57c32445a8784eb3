//! What operators are told of the facts, and a copy of them.

use std::io::Write;

use crate::index::{Counts, IndexError};
use crate::store::SpaceLimits;

use crate::mirror::Mirror;

/// What an upstream's content takes of what it may.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quota {
    /// The upstream, as it is configured.
    pub upstream: String,
    /// Bytes of its blobs and running downloads.
    pub used_bytes: u64,
    /// Its own `max_size`. Bytes.
    pub max_size: u64,
}

impl Mirror {
    /// Of upstreams that have a quota of their own, in the order of the alphabet.
    pub async fn quotas(&self) -> Vec<Quota> {
        let mut quotas = Vec::new();
        for (authority, registry) in self.configured_registries() {
            if let Some(max_size) = registry.policy.max_size {
                let used_bytes = self.bytes_of(&authority).await;
                quotas.push(Quota { upstream: registry.name().to_owned(), used_bytes, max_size });
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

    /// How many of these are in quarantine.
    pub fn quarantined_bytes(&self) -> u64 {
        self.store.quarantined_bytes()
    }

    /// Writes all facts of this moment to `out`, without the blobs, and returns how many.
    pub async fn back_up(&self, out: impl Write + Send + 'static) -> Result<u64, IndexError> {
        self.index.back_up(out).await
    }
}
