//! What goes when space is needed, and when nobody has used it for long.
//!
//! A mark comes first, then the file goes, then the record: a start finds what a crash left between them. Pinned content
//! is not in the eviction order at all. Content that no upstream can give again is not asked for. Leased content is passed
//! over. See `docs/eviction.md`.

mod access_times;
mod batch;
mod lease;
mod out_of_space;
mod pins;
mod reserve;
mod rows;
mod storing;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

pub use access_times::AccessTimes;
pub use lease::{Lease, Leases};
pub use pins::{Pin, Pins};
pub(in crate::cache) use rows::bound_rows;
pub use rows::run_rows;
pub use storing::StorePermit;

use crate::clock::Timestamp;
use crate::metrics::{ByEviction, Counter, Metrics};
use crate::oci::{Authority, PinPattern};
use crate::store;

use super::{Cache, RegistryFacts};
use out_of_space::OutOfSpace;
use storing::Storing;

/// Between looks when nobody asks.
const PAUSE: Duration = Duration::from_secs(30);
/// An interrupted download is kept so long before it goes ahead of blobs.
const LEFTOVER_PATIENCE: Duration = Duration::from_mins(10);

/// What the configuration says of eviction, beside the limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvictionSettings {
    /// What was not used for so long goes, whatever space there is.
    pub unused_for: Option<Duration>,
    /// Never evicted, with all they reach.
    pub pins: Vec<PinPattern>,
    /// Parts of an upstream's `max_size` above which its content goes, and down to which. Percent.
    pub marks: Marks,
}

/// Percent of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    pub high: u64,
    pub low: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self { high: 95, low: 90 }
    }
}

impl Marks {
    /// Both, of a limit in bytes.
    pub fn of(self, limit: u64) -> (u64, u64) {
        (limit / 100 * self.high + limit % 100 * self.high / 100, limit / 100 * self.low + limit % 100 * self.low / 100)
    }
}

/// Evicts, one batch at a time.
pub struct Evictor {
    cache: Arc<Cache>,
    settings: EvictionSettings,
    out_of_space: OutOfSpace,
    storing: Storing,
}

/// Why a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Space,
    Quota,
    Age,
    /// By command.
    Removed,
}

/// What was evicted of an upstream's content since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    pub blobs: u64,
    pub bytes: u64,
}

impl Evicted {
    /// For whatever reason, by the upstream's name in metrics.
    pub fn of(metrics: &Metrics, upstream: &str) -> Self {
        let sum = |family: &Family<ByEviction, Counter>| {
            let labels = Reason::ALL.map(|reason| ByEviction { authority: upstream.to_owned(), reason: reason.name() });
            labels.iter().filter_map(|labels| family.get(labels).map(|counter| counter.get())).sum()
        };
        Self { blobs: sum(&metrics.evicted_blobs), bytes: sum(&metrics.evicted_bytes) }
    }
}

impl Reason {
    const ALL: [Self; 4] = [Self::Space, Self::Quota, Self::Age, Self::Removed];

    const fn name(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Quota => "quota",
            Self::Age => "age",
            Self::Removed => "removed",
        }
    }
}

/// One reason to look, and its limits.
enum Pass {
    /// What was last used before.
    Age(Timestamp),
    Quota {
        authority: Authority,
        registry: RegistryFacts,
        quota: u64,
    },
    Space,
    /// Down to so many bytes, by command.
    To(u64),
}

impl Pass {
    const fn reason(&self) -> Reason {
        match self {
            Self::Age(_) => Reason::Age,
            Self::Quota { .. } => Reason::Quota,
            Self::Space => Reason::Space,
            Self::To(_) => Reason::Removed,
        }
    }
}

/// What an operator wants to go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gc {
    /// The coldest, until no more bytes are used than these.
    To(u64),
    /// What was not used for so long.
    UnusedFor(Duration),
}

/// What [`Evictor::gc`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: u64,
    pub bytes: u64,
    /// It has ended, and not only run out of time.
    pub is_done: bool,
}

/// What should go.
#[derive(Debug)]
struct EvictionGoal {
    reason: Reason,
    bytes: u64,
    authorities: Vec<String>,
    unused_since: Option<Timestamp>,
}

impl Evictor {
    pub fn new(cache: Arc<Cache>, settings: EvictionSettings) -> Arc<Self> {
        Arc::new(Self { cache, settings, out_of_space: OutOfSpace::default(), storing: Storing::default() })
    }

    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Evicts in the background, in small batches, until the mirror stops.
    pub async fn run(self: Arc<Self>) {
        let cache = &self.cache;
        let work = async {
            self.refresh_pins().await;
            let mut due = Instant::now() + PAUSE;
            loop {
                tokio::select! {
                    () = cache.store.pressed() => {}
                    () = cache.access_times.filled() => {}
                    () = tokio::time::sleep_until(due) => {}
                    () = cache.index.healed() => {
                        self.refresh_pins().await;
                        continue;
                    }
                }
                self.evict_now().await;
                cache.pins.refresh_if_due(&cache.index, cache.context.clock.now()).await;
                due = Instant::now() + PAUSE;
            }
        };
        tokio::select! {
            () = work => {}
            () = cache.context.stopping.cancelled() => {}
        }
    }

    async fn refresh_pins(&self) {
        self.cache.pins.refresh(&self.cache.index, self.cache.context.clock.now()).await;
    }

    /// Writes down what was used, and evicts down to the low marks.
    async fn evict_now(self: &Arc<Self>) {
        let cache = &self.cache;
        cache.access_times.write(&cache.index).await;
        cache.count_index().await;
        self.drop_idle_leftovers().await;
        if let Err(err) = store::quarantine::recount(&cache.store, cache.context.clock.now()).await {
            tracing::debug!(error = %err, "what is in quarantine cannot be counted now");
        }
        if !cache.pins.are_known(&cache.index) {
            return;
        }
        if let Some(unused_for) = self.settings.unused_for {
            self.run_pass(&Pass::Age(cache.access_time().before(unused_for))).await;
        }
        for (authority, registry) in cache.registries.configured() {
            if let Some(quota) = registry.max_size.filter(|_| !registry.is_offline) {
                self.run_pass(&Pass::Quota { authority, registry, quota }).await;
            }
        }
        // Nobody reads what is in quarantine.
        let surplus = cache.store.surplus(false);
        if surplus > 0 {
            store::quarantine::free(&cache.store, surplus).await;
        }
        self.run_pass(&Pass::Space).await;
        self.clear_out_of_space().await;
        cache.show_usage().await;
    }

    /// Evicts by command, until nothing is left to do, nothing may go, or it is late. Pins, leases and last copies stay.
    pub async fn gc(self: &Arc<Self>, gc: Gc, late: Instant) -> Collected {
        let cache = &self.cache;
        cache.access_times.write(&cache.index).await;
        if !cache.pins.are_known(&cache.index) {
            self.refresh_pins().await;
        }
        let pass = match gc {
            Gc::To(bytes) => Pass::To(bytes),
            Gc::UnusedFor(age) => Pass::Age(cache.access_time().before(age)),
        };
        let collected = self.run_pass_until(&pass, Some(late)).await;
        cache.show_usage().await;
        collected
    }

    async fn run_pass(self: &Arc<Self>, pass: &Pass) {
        self.run_pass_until(pass, None).await;
    }

    /// Evicts batches until nothing is left to do, or nothing may go. Pauses as long as it works, so that hits do not wait
    /// behind it.
    async fn run_pass_until(self: &Arc<Self>, pass: &Pass, late: Option<Instant>) -> Collected {
        let (mut bytes, mut blobs, mut is_done) = (0, 0, true);
        while let Some(goal) = self.goal(pass, blobs > 0) {
            if late.is_some_and(|late| Instant::now() >= late) {
                is_done = false;
                break;
            }
            let began = Instant::now();
            let Some(permit) = self.permit().await else { break };
            let Some((permit, batch)) = self.evict_batch(permit, goal).await else { break };
            drop(permit);
            bytes += batch.bytes;
            blobs += batch.blobs;
            // A blob that is gone and still in the order would be chosen again.
            if !batch.may_go_on() || !batch.is_recorded {
                break;
            }
            tokio::time::sleep(began.elapsed()).await;
        }
        if blobs > 0 {
            tracing::info!(blobs, bytes, reason = pass.reason().name(), "evicted");
        }
        Collected { blobs, bytes, is_done }
    }

    /// What is left to do of a pass, which goes on down to the low mark once it has `begun`.
    fn goal(&self, pass: &Pass, begun: bool) -> Option<EvictionGoal> {
        let (bytes, authorities, unused_since) = match pass {
            Pass::Age(since) => (u64::MAX, self.evictable(), Some(*since)),
            Pass::Quota { authority, registry, quota } => {
                let (high, low) = self.settings.marks.of(*quota);
                let used = self.cache.used_of(authority, registry);
                let surplus = if used > if begun { low } else { high } { used - low } else { 0 };
                (surplus, vec![authority.to_string()], None)
            }
            Pass::Space => (self.cache.store.surplus(begun), self.evictable(), None),
            Pass::To(bytes) => (self.cache.store.used_bytes().saturating_sub(*bytes), self.evictable(), None),
        };
        (bytes > 0).then_some(EvictionGoal { reason: pass.reason(), bytes, authorities, unused_since })
    }

    /// The registries whose content may go.
    fn evictable(&self) -> Vec<String> {
        let stored = self.cache.store.stored_by();
        stored.into_iter().map(|(authority, _)| authority).filter(|name| self.cache.can_come_again(name)).collect()
    }

    /// Interrupted downloads that nobody went on with go first, if something has to go.
    async fn drop_idle_leftovers(&self) {
        let store = &self.cache.store;
        let now = self.cache.context.clock.now().as_millis();
        let patience = u64::try_from(LEFTOVER_PATIENCE.as_millis()).unwrap_or(u64::MAX);
        // Where nothing has to go, this only notes that they have been seen.
        let idle_since = if store.surplus(false) > 0 { now.saturating_sub(patience) } else { 0 };
        store.drop_leftovers(now, idle_since).await;
    }
}
