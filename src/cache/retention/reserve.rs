//! Room for what is to be stored: within the limits, else by evicting, else not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{RegistryFacts, describe_fault};
use crate::file_blocks::in_blocks;
use crate::index::{Change, IndexError};
use crate::metrics::ByAuthority;
use crate::oci::{Authority, Digest};
use crate::store::{self, CommitError, Committed, PartialFile, Shortage};

use super::batch::EvictionPermit;
use super::{EvictionGoal, Evictor, Reason, StorePermit};

/// Longest that a fill waits for others to go. Its reader waits for as long; a batch that is under way goes on without
/// them.
const PATIENCE: Duration = Duration::from_secs(5);

impl Evictor {
    /// Begins a download that is to have `claimed` bytes: sets `most` of them aside where there is plenty of room, else
    /// `first` of them, and more as bytes come. Refuses what will not fit, without evicting anything for it.
    pub async fn begin(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        (authority, registry): (&Authority, &RegistryFacts),
        (claimed, first, most): (u64, u64, u64),
        may_evict: bool,
    ) -> Result<(), CommitError> {
        let store = &self.cache.store;
        let over_quota = self.over_quota(authority, registry, claimed);
        if claimed <= first {
            return self.reserve(partial_file, (authority, registry), claimed, may_evict).await;
        }
        if over_quota == 0 && store.has_plenty(claimed) {
            // Whoever claims next finds this one.
            let _fits = partial_file.claim(&registry.name, claimed);
            return self.reserve(partial_file, (authority, registry), claimed.min(most), may_evict).await;
        }
        let mut fits = self.could_fit(registry, claimed);
        if fits {
            // Whoever claims next finds this one.
            let shortage = partial_file.claim(&registry.name, claimed);
            if shortage.bytes == 0 && over_quota == 0 {
                store.require_on_disk(claimed)?;
            } else {
                fits = may_evict && self.may_make_room(authority, registry, claimed, shortage, over_quota).await;
            }
        }
        if !fits {
            partial_file.shrink(0);
            self.count_refused(registry);
            return Err(CommitError::NoSpace(claimed));
        }
        self.reserve(partial_file, (authority, registry), first, may_evict).await
    }

    /// Whether enough may go for a claim. Nothing goes yet.
    async fn may_make_room(
        &self,
        authority: &Authority,
        registry: &RegistryFacts,
        claimed: u64,
        shortage: Shortage,
        over_quota: u64,
    ) -> bool {
        let (cache, own) = (&self.cache, self.own(authority));
        let authorities = if shortage.own_only { own.clone() } else { self.evictable() };
        let idle = cache.store.quarantined_bytes().saturating_add(cache.store.leftover_bytes());
        let lack = shortage.bytes.saturating_sub(idle);
        let look = async {
            cache.pins.known(&cache.index).await;
            let leased = || cache.leases.digests().into_iter().collect();
            let found = self.finds(lack, authorities, leased()).await?;
            Ok::<_, IndexError>(found && self.finds(over_quota, own, leased()).await?)
        };
        let has_found = tokio::time::timeout(PATIENCE, look).await.is_ok_and(|found| found.unwrap_or(false));
        if !has_found {
            self.nothing_may_go(registry, claimed).await;
        }
        has_found
    }

    /// Sets space aside up to `size_bytes` of a blob, evicting colder content if it must and `may_evict`.
    pub async fn reserve(
        self: &Arc<Self>,
        partial_file: &mut PartialFile,
        (authority, registry): (&Authority, &RegistryFacts),
        size_bytes: u64,
        may_evict: bool,
    ) -> Result<(), CommitError> {
        let before = partial_file.reserved_bytes();
        if !may_evict && !self.has_room_to_spare(authority, registry, size_bytes.saturating_sub(before)) {
            return Err(CommitError::NoSpace(size_bytes));
        }
        let reserved = match self.reserve_now(partial_file, authority, registry, size_bytes).await {
            Err(CommitError::NoSpace(_)) if !may_evict => return Err(CommitError::NoSpace(size_bytes)),
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
            Err(CommitError::Io(_)) => self.cache.store.disk_refused(size_bytes.saturating_sub(before)),
            Err(CommitError::NoSpace(_)) => self.count_refused(registry),
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
        let before = partial_file.reserved_bytes();
        partial_file.reserve(&registry.name, size_bytes).await?;
        if let Some(quota) = registry.max_size
            && self.cache.used_of(authority, registry) > quota
        {
            partial_file.shrink(before);
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
            let more = size_bytes.saturating_sub(partial_file.reserved_bytes());
            if let Some(same) = self.make_room(permit, authority, registry, more).await {
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

    /// Whether so many bytes may wait to be stored. If too many wait, `None`: these go without, and are counted.
    pub fn may_store(&self, (origin, registry): (&Authority, &RegistryFacts), bytes: usize) -> Option<StorePermit> {
        let permit = self.storing.admit(origin, bytes);
        if permit.is_none() {
            self.count_refused(registry);
        }
        permit
    }

    /// Stores verified bytes that are in memory, with the facts about them, evicting colder content if it must and
    /// `may_evict`. Bytes that the disk does not take are stored when it works again, if they are in memory still.
    pub async fn store(
        self: &Arc<Self>,
        (origin, registry): (&Authority, &RegistryFacts),
        digest: Digest,
        bytes: Bytes,
        facts: Vec<Change>,
        may_evict: bool,
    ) {
        let (cache, size_bytes) = (&self.cache, bytes.len() as u64);
        if !may_evict && !self.has_room_to_spare(origin, registry, size_bytes) {
            self.count_refused(registry);
            return;
        }
        // From before the file is there until it is recorded.
        let _lease = cache.leases.lease(vec![digest]);
        let stored = match self.put(origin, registry, digest, bytes.clone()).await {
            Err(CommitError::NoSpace(_)) if may_evict && self.make_room_for(origin, registry, size_bytes).await => {
                self.put(origin, registry, digest, bytes).await
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

    /// Stores bytes within the limits, the registry's own among them.
    async fn put(
        &self,
        origin: &Authority,
        registry: &RegistryFacts,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Option<Committed>, CommitError> {
        let (cache, size_bytes) = (&self.cache, bytes.len() as u64);
        let is_held = cache.index.blob_row(digest).await.is_ok_and(|row| row.is_some());
        if !is_held && self.over_quota(origin, registry, size_bytes) > 0 {
            return Err(CommitError::NoSpace(size_bytes));
        }
        cache.store.put(origin, digest, bytes).await
    }

    /// Makes room for bytes that the store sets space aside for by itself. `true` if there may be room now.
    async fn make_room_for(self: &Arc<Self>, origin: &Authority, registry: &RegistryFacts, size_bytes: u64) -> bool {
        let evicting = async {
            self.cache.pins.known(&self.cache.index).await;
            let Some(permit) = self.permit().await else { return false };
            // First within its own limit, then within those of all.
            let Some(permit) = self.make_room(permit, origin, registry, size_bytes).await else { return false };
            registry.max_size.is_none() || self.make_room(permit, origin, registry, size_bytes).await.is_some()
        };
        let has_room =
            self.could_fit(registry, size_bytes) && tokio::time::timeout(PATIENCE, evicting).await.unwrap_or(false);
        if !has_room {
            self.count_refused(registry);
        }
        has_room
    }

    /// Whether so much more of a registry fits without anything going for it, now or in the background.
    fn has_room_to_spare(&self, authority: &Authority, registry: &RegistryFacts, more: u64) -> bool {
        let within_quota = registry.max_size.is_none_or(|quota| {
            let (high, _) = self.settings.marks.of(quota);
            self.cache.used_of(authority, registry).saturating_add(in_blocks(more)) <= high
        });
        within_quota && self.cache.store.has_room_to_spare(more)
    }

    fn count_refused(&self, registry: &RegistryFacts) {
        let labels = ByAuthority::of(&registry.name);
        self.cache.context.metrics.reservations_refused.get_or_create(&labels).inc();
    }

    /// Whether it would fit if all else were gone: nothing is evicted for what will not.
    fn could_fit(&self, registry: &RegistryFacts, size_bytes: u64) -> bool {
        let own = in_blocks(size_bytes).saturating_add(self.cache.row_bytes(registry));
        self.cache.store.could_fit(size_bytes) && registry.max_size.is_none_or(|quota| own <= quota)
    }

    /// Evicts one batch of what stands in the way, and gives the permit back. `None` if nothing may go.
    async fn make_room(
        self: &Arc<Self>,
        permit: EvictionPermit,
        authority: &Authority,
        registry: &RegistryFacts,
        more: u64,
    ) -> Option<EvictionPermit> {
        let cache = &self.cache;
        let now = cache.context.clock.now().as_millis();
        let over_quota = self.over_quota(authority, registry, more);
        let (reason, Shortage { bytes, own_only }) = if over_quota > 0 {
            (Reason::Quota, Shortage { bytes: over_quota, own_only: true })
        } else {
            (Reason::Space, cache.store.shortage(authority, &registry.name, more))
        };
        let authorities = if own_only { self.own(authority) } else { self.evictable() };
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

    /// Bytes that have to go of a registry before so many more fit within its own limit.
    pub(super) fn over_quota(&self, authority: &Authority, registry: &RegistryFacts, more: u64) -> u64 {
        let used = self.cache.used_of(authority, registry).saturating_add(in_blocks(more));
        registry.max_size.map_or(0, |quota| used.saturating_sub(quota))
    }

    /// The registry itself, if its content may go.
    pub(super) fn own(&self, authority: &Authority) -> Vec<String> {
        let own = authority.to_string();
        if self.cache.can_come_again(&own) { vec![own] } else { Vec::new() }
    }
}
