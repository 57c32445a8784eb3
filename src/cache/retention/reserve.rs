//! Room for what is to be stored: within the limits, else by evicting, else not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{RegistryFacts, describe_fault};
use crate::index::Change;
use crate::metrics::ByAuthority;
use crate::oci::{Authority, Digest};
use crate::store::{self, CommitError, PartialFile};

use super::batch::EvictionPermit;
use super::{EvictionGoal, Evictor, Reason};

/// Longest that a fill waits for others to go. Its reader waits for as long; a batch that is under way goes on without
/// them.
const PATIENCE: Duration = Duration::from_secs(5);

impl Evictor {
    /// Sets space aside for a blob of `size_bytes`, evicting colder content if it must and `may_evict`.
    pub async fn reserve(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        (authority, registry): (&Authority, &RegistryFacts),
        size_bytes: u64,
        may_evict: bool,
    ) -> Result<(), CommitError> {
        let reserved = match self.reserve_now(partial_file, authority, registry, size_bytes).await {
            Err(CommitError::NoSpace(_)) if !may_evict => {
                partial_file.release();
                return Err(CommitError::NoSpace(size_bytes));
            }
            Err(CommitError::NoSpace(_)) => {
                let evicting = self.reserve_by_evicting(partial_file, authority, registry, size_bytes);
                let late = |_elapsed| Err(CommitError::NoSpace(size_bytes));
                tokio::time::timeout(PATIENCE, evicting).await.unwrap_or_else(late)
            }
            reserved => reserved,
        };
        match &reserved {
            Ok(()) => self.found_room(registry, size_bytes),
            // Nobody waits for room that others on this disk may take: this one is passed through.
            Err(CommitError::Io(_)) => self.cache.store.disk_refused(size_bytes),
            Err(CommitError::NoSpace(_)) => {
                partial_file.release();
                self.count_refused(registry);
            }
            Err(CommitError::Mismatch { .. } | CommitError::WrongSize { .. }) => {}
        }
        reserved
    }

    async fn reserve_now(
        &self,
        partial_file: &mut PartialFile,
        authority: &Authority,
        registry: &RegistryFacts,
        size_bytes: u64,
    ) -> Result<(), CommitError> {
        partial_file.reserve(size_bytes).await?;
        if let Some(quota) = registry.max_size
            && self.cache.store.used_by(authority) > quota
        {
            partial_file.release();
            return Err(CommitError::NoSpace(size_bytes));
        }
        Ok(())
    }

    async fn reserve_by_evicting(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        authority: &Authority,
        registry: &RegistryFacts,
        size_bytes: u64,
    ) -> Result<(), CommitError> {
        let refused = || Err(CommitError::NoSpace(size_bytes));
        if !self.could_fit(registry, size_bytes) {
            return refused();
        }
        self.cache.pins.known(&self.cache.index).await;
        let Some(mut permit) = self.permit().await else { return refused() };
        loop {
            match self.reserve_now(partial_file, authority, registry, size_bytes).await {
                Err(CommitError::NoSpace(_)) => {}
                reserved => return reserved,
            }
            // Nothing more goes for space that comes back in a moment.
            if self.cache.store.removed_space_back().await {
                continue;
            }
            if let Some(same) = self.make_room(permit, authority, registry.max_size, size_bytes).await {
                permit = same;
                continue;
            }
            // What was committed a moment ago gives its space back once it has lost its partial name.
            let is_late = !self.cache.store.partial_name_gone().await;
            let Some(next) = self.permit().await.filter(|_| !is_late) else {
                self.nothing_may_go(registry, size_bytes).await;
                return refused();
            };
            permit = next;
        }
    }

    /// Stores verified bytes that are in memory, with the facts about them, evicting colder content if it must. Bytes that
    /// the disk does not take are stored when it works again, if they are in memory still.
    pub async fn store(
        self: &Arc<Self>,
        (origin, registry): (&Authority, &RegistryFacts),
        digest: Digest,
        bytes: Bytes,
        facts: Vec<Change>,
    ) {
        let (cache, size_bytes) = (&self.cache, bytes.len() as u64);
        // From before the file is there until it is recorded.
        let _lease = cache.leases.lease(vec![digest]);
        let stored = match cache.store.put(origin, digest, bytes.clone()).await {
            Err(CommitError::NoSpace(_)) if self.make_room_for(origin, registry, size_bytes).await => {
                cache.store.put(origin, digest, bytes).await
            }
            stored => stored,
        };
        match stored {
            Ok(Some(committed)) => cache.admit(digest, facts, committed).await,
            Ok(None) => cache.admit_again(facts).await,
            Err(err) => {
                tracing::warn!(%digest, error = %err, "a manifest could not be stored; it is kept in memory for now");
                if let CommitError::Io(err) = err {
                    cache.pending.store_later(origin, digest, facts);
                    cache.report_fault(&describe_fault(&err), size_bytes);
                }
            }
        }
    }

    /// Makes room for bytes that the store sets space aside for by itself. `true` if there may be room now.
    async fn make_room_for(self: &Arc<Self>, origin: &Authority, registry: &RegistryFacts, size_bytes: u64) -> bool {
        let evicting = async {
            self.cache.pins.known(&self.cache.index).await;
            let Some(permit) = self.permit().await else { return false };
            self.make_room(permit, origin, None, size_bytes).await.is_some()
        };
        let has_room =
            self.could_fit(registry, size_bytes) && tokio::time::timeout(PATIENCE, evicting).await.unwrap_or(false);
        if !has_room {
            self.count_refused(registry);
        }
        has_room
    }

    fn count_refused(&self, registry: &RegistryFacts) {
        let labels = ByAuthority::of(&registry.name);
        self.cache.context.metrics.reservations_refused.get_or_create(&labels).inc();
    }

    /// Whether it would fit if all else were gone: nothing is evicted for what will not.
    fn could_fit(&self, registry: &RegistryFacts, size_bytes: u64) -> bool {
        self.cache.store.could_fit(size_bytes) && registry.max_size.is_none_or(|quota| size_bytes <= quota)
    }

    /// Evicts one batch of what stands in the way, and gives the permit back. `None` if nothing may go.
    async fn make_room(
        self: &Arc<Self>,
        permit: EvictionPermit,
        authority: &Authority,
        quota: Option<u64>,
        size_bytes: u64,
    ) -> Option<EvictionPermit> {
        let cache = &self.cache;
        let now = cache.context.clock.now().as_millis();
        let of_authority = cache.store.used_by(authority).saturating_add(size_bytes);
        let over_quota = quota.map_or(0, |quota| of_authority.saturating_sub(quota));
        let (reason, bytes, authorities) = if over_quota > 0 {
            let own = authority.to_string();
            let authorities = if cache.can_come_again(&own) { vec![own] } else { Vec::new() };
            (Reason::Quota, over_quota, authorities)
        } else {
            (Reason::Space, cache.store.shortage(size_bytes), self.evictable())
        };
        // Another reservation in between may have changed everything: the caller looks again.
        if bytes == 0 {
            tokio::task::yield_now().await;
            return Some(permit);
        }
        if reason == Reason::Space && store::quarantine::free(&cache.store, bytes).await > 0 {
            return Some(permit);
        }
        let goal = EvictionGoal { reason, bytes, authorities, unused_since: None };
        let (permit, batch) = self.evict_batch(permit, goal).await?;
        // An interrupted download is only a head start.
        let is_made = batch.may_go_on() || cache.store.drop_leftovers(now, now).await > 0;
        is_made.then_some(permit)
    }
}
