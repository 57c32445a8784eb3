//! Limits under which nothing fits any more because nothing may go. The operator is told until something fits again.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::RegistryFacts;
use crate::file_blocks::in_blocks;
use crate::health::Part;
use crate::index::{IndexError, Search};
use crate::oci::Digest;

use super::Evictor;

/// Blobs looked at: so many that may go are taken for enough.
const ENOUGH: usize = 1000;

/// The smallest size that did not fit, in bytes: under an upstream's own `max_size`, or, without a name, under the limits
/// of the storage.
#[derive(Debug, Default)]
pub(super) struct OutOfSpace(Mutex<BTreeMap<Option<String>, u64>>);

impl OutOfSpace {
    fn by_limit(&self) -> MutexGuard<'_, BTreeMap<Option<String>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evictor {
    /// So many bytes would fit, if anything were allowed to go.
    pub(super) async fn nothing_may_go(&self, registry: &RegistryFacts, size_bytes: u64) {
        let is_own = self.cache.store.lack(size_bytes) == 0 && registry.max_size.is_some();
        let limit = is_own.then(|| registry.name.clone());
        // A leased blob may go in a moment; and an index that cannot be read is reported by itself.
        if !matches!(self.may_fit(limit.as_deref(), size_bytes).await, Ok(false)) {
            return;
        }
        let what = limit.as_ref().map_or_else(
            || "`storage.max_size` and `storage.min_free`".to_owned(),
            |upstream| format!("`max_size` of the upstream {upstream}"),
        );
        let mut out_of_space = self.out_of_space.by_limit();
        let smallest = out_of_space.entry(limit).or_insert(size_bytes);
        *smallest = size_bytes.min(*smallest);
        // Under the lock, so that no clearing comes between.
        let why = format!(
            "there is no room for {size_bytes} bytes under {what}, and nothing may be evicted; such blobs are passed through \
             without storing them: raise the limit, take pins back, or free the disk"
        );
        if self.cache.context.health.degrade(Part::Space, why.as_str()) {
            tracing::warn!("{why}");
        }
    }

    /// So many bytes were set aside.
    pub(super) fn found_room(&self, registry: &RegistryFacts, size_bytes: u64) {
        self.clear(|limit, smallest| {
            let is_meant = limit.is_none_or(|upstream| upstream == registry.name);
            is_meant && smallest <= size_bytes
        });
    }

    /// Whether it would fit by now, or enough may go: pins are taken back, disks are freed.
    pub(super) async fn clear_out_of_space(&self) {
        let short = self.out_of_space.by_limit().clone();
        for (limit, smallest) in short {
            if matches!(self.may_fit(limit.as_deref(), smallest).await, Ok(true)) {
                self.clear(|cleared, _| cleared == limit.as_deref());
            }
        }
    }

    /// Whether so many bytes fit under this limit, or enough may go: now, or when the downloads that run have ended and nobody
    /// uses it any more.
    async fn may_fit(&self, limit: Option<&str>, size_bytes: u64) -> Result<bool, IndexError> {
        let (lack, authorities) = match limit {
            None => {
                let lack = self.cache.store.lack(size_bytes);
                (lack.saturating_sub(self.cache.store.promised_bytes()), self.evictable())
            }
            Some(upstream) => self.lack_of_quota(upstream, size_bytes),
        };
        self.finds(lack, authorities, HashSet::new()).await
    }

    /// Whether so many bytes of these registries may go.
    pub(super) async fn finds(
        &self,
        lack: u64,
        authorities: Vec<String>,
        except: HashSet<Digest>,
    ) -> Result<bool, IndexError> {
        if lack == 0 {
            return Ok(true);
        }
        let search = Search {
            now: self.cache.access_time(),
            authorities,
            used_lately: Arc::default(),
            unused_since: None,
            except,
            bytes: lack,
            blobs: ENOUGH,
        };
        let cold = self.cache.index.candidates(search).await?;
        Ok(cold.len() == ENOUGH || cold.iter().map(|cold| in_blocks(cold.size_bytes)).sum::<u64>() >= lack)
    }

    /// Bytes that have to go of an upstream before so many more fit, and whose content may.
    fn lack_of_quota(&self, upstream: &str, size_bytes: u64) -> (u64, Vec<String>) {
        let own = self.cache.registries.configured().into_iter().find(|(_, registry)| registry.name == upstream);
        let Some((authority, registry)) = own.filter(|(_, registry)| registry.max_size.is_some()) else {
            return (0, Vec::new());
        };
        let lack = self.over_quota(&authority, &registry, size_bytes);
        (lack.saturating_sub(self.cache.store.promised_to(&authority)), self.own(&authority))
    }

    fn clear(&self, is_over: impl Fn(Option<&str>, u64) -> bool) {
        let mut out_of_space = self.out_of_space.by_limit();
        if out_of_space.is_empty() {
            return;
        }
        out_of_space.retain(|limit, smallest| !is_over(limit.as_deref(), *smallest));
        if out_of_space.is_empty() && self.cache.context.health.heal(Part::Space) {
            tracing::info!("there is room again");
        }
    }
}
