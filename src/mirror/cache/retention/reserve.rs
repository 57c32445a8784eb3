//! Room for a fill, before its first byte: within the limits, else by evicting, else not at all.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::ByAuthority;
use crate::oci::Authority;
use crate::store::{CommitError, PartialFile};

use crate::mirror::cache::retention::{EvictionGoal, EvictionPermit, Reason};
use crate::mirror::{Mirror, Registry};

/// Longest that a fill waits for others to go. Its reader waits for as long; a step that is under way goes on without them.
const PATIENCE: Duration = Duration::from_secs(5);

impl Mirror {
    /// Sets space aside for a blob of `size_bytes`, evicting what is colder if it must.
    pub(in crate::mirror) async fn reserve(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        registry: &Registry,
        size_bytes: u64,
    ) -> Result<(), CommitError> {
        let reserved = match self.reserve_now(partial_file, registry, size_bytes).await {
            Err(CommitError::NoSpace(_)) => {
                let evicting = self.reserve_by_evicting(partial_file, registry, size_bytes);
                let late = |_elapsed| Err(CommitError::NoSpace(size_bytes));
                tokio::time::timeout(PATIENCE, evicting).await.unwrap_or_else(late)
            }
            reserved => reserved,
        };
        if reserved.is_ok() {
            self.found_room(registry, size_bytes);
        }
        if matches!(reserved, Err(CommitError::Io(_))) {
            // Nobody waits for room that others on this disk may take: this one is passed through.
            self.store.disk_refused(size_bytes);
        }
        if matches!(reserved, Err(CommitError::NoSpace(_))) {
            partial_file.release();
            self.metrics.reservations_refused.get_or_create(&ByAuthority::of(registry.name())).inc();
        }
        reserved
    }

    async fn reserve_now(
        &self,
        partial_file: &mut PartialFile,
        registry: &Registry,
        size_bytes: u64,
    ) -> Result<(), CommitError> {
        partial_file.reserve(size_bytes).await?;
        if let Some(quota) = registry.policy.max_size
            && self.bytes_of(registry.client.authority()).await > quota
        {
            partial_file.release();
            return Err(CommitError::NoSpace(size_bytes));
        }
        Ok(())
    }

    async fn reserve_by_evicting(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        registry: &Registry,
        size_bytes: u64,
    ) -> Result<(), CommitError> {
        let refused = || Err(CommitError::NoSpace(size_bytes));
        if !self.could_fit(registry, size_bytes) {
            return refused();
        }
        self.pins_known().await;
        let Some(mut permit) = self.eviction_permit().await else { return refused() };
        loop {
            match self.reserve_now(partial_file, registry, size_bytes).await {
                Err(CommitError::NoSpace(_)) => {}
                reserved => return reserved,
            }
            let made = self.make_room(permit, registry.client.authority(), registry.policy.max_size, size_bytes).await;
            let Some(still) = made else {
                self.nothing_may_go(registry, size_bytes).await;
                return refused();
            };
            permit = still;
        }
    }

    /// The same for a manifest, which the store reserves for by itself. `true` if there may be room now.
    pub(in crate::mirror) async fn make_room_for_manifest(
        self: &Arc<Self>,
        registry: &Registry,
        size_bytes: u64,
    ) -> bool {
        let evicting = async {
            self.pins_known().await;
            let Some(permit) = self.eviction_permit().await else { return false };
            self.make_room(permit, registry.client.authority(), None, size_bytes).await.is_some()
        };
        let made =
            self.could_fit(registry, size_bytes) && tokio::time::timeout(PATIENCE, evicting).await.unwrap_or(false);
        if !made {
            self.metrics.reservations_refused.get_or_create(&ByAuthority::of(registry.name())).inc();
        }
        made
    }

    /// Whether it would fit were all else gone: nothing is evicted for what will not.
    fn could_fit(&self, registry: &Registry, size_bytes: u64) -> bool {
        self.store.could_fit(size_bytes) && registry.policy.max_size.is_none_or(|quota| size_bytes <= quota)
    }

    /// Evicts one step of what stands in the way, and gives the permit back. `None` if nothing may go.
    async fn make_room(
        self: &Arc<Self>,
        permit: EvictionPermit,
        authority: &Authority,
        quota: Option<u64>,
        size_bytes: u64,
    ) -> Option<EvictionPermit> {
        let now = self.clock.now().as_millis();
        let of_authority = self.bytes_of(authority).await.saturating_add(size_bytes);
        let over_quota = quota.map_or(0, |quota| of_authority.saturating_sub(quota));
        let (reason, bytes, authorities) = if over_quota > 0 {
            let own = authority.to_string();
            let authorities = if self.can_come_again(&own) { vec![own] } else { Vec::new() };
            (Reason::Quota, over_quota, authorities)
        } else {
            (Reason::Space, self.store.shortage(size_bytes), self.evictable().await)
        };
        // Whoever reserved or left in between may have changed everything: the caller looks again.
        if bytes == 0 {
            tokio::task::yield_now().await;
            return Some(permit);
        }
        if reason == Reason::Space && self.store.free_quarantine(bytes).await > 0 {
            return Some(permit);
        }
        let (permit, step) =
            self.evict_step(permit, EvictionGoal { reason, bytes, authorities, unused_since: None }).await?;
        // Of interrupted downloads only a promise is lost.
        let made = step.went_on() || self.store.drop_leftovers(now, now).await > 0;
        made.then_some(permit)
    }
}
