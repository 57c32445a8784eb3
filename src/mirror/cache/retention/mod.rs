//! What goes when space is needed, and when nobody has used it for long (design §7).
//!
//! File first, row second, and a mark before both: a start finds what a crash left between them. What is pinned is not in
//! the order at all; what has no upstream to come from again is not asked for; what is being filled or held is passed over.

pub(in crate::mirror) mod access_times;
pub(in crate::mirror) mod batch;
pub(in crate::mirror) mod lease;
pub(in crate::mirror) mod out_of_space;
pub(in crate::mirror) mod pins;
pub(in crate::mirror) mod reserve;
mod undeletable;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::metrics::ByAuthority;
use crate::oci::{Authority, Digest, PinPattern};

use crate::mirror::Mirror;
use crate::mirror::cache::retention::lease::Leases;
use crate::mirror::cache::retention::out_of_space::OutOfSpace;
use crate::mirror::cache::retention::pins::Pins;
pub(in crate::mirror) use batch::EvictionPermit;

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

pub(in crate::mirror) struct Eviction {
    pub(in crate::mirror) settings: EvictionSettings,
    /// One step at a time, whoever needs it.
    pub(in crate::mirror) permit: Arc<Semaphore>,
    pub(in crate::mirror) leases: Leases,
    undeletable: undeletable::Undeletables,
    pub(in crate::mirror) out_of_space: OutOfSpace,
    pub(in crate::mirror) pins: Pins,
}

/// Why a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) enum Reason {
    Space,
    Quota,
    Age,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Quota => "quota",
            Self::Age => "age",
        }
    }
}

/// One reason to look, and its limits.
enum Pass {
    /// What was last used before.
    Age(Timestamp),
    Quota {
        authority: Authority,
        quota: u64,
    },
    Space,
}

impl Pass {
    const fn reason(&self) -> Reason {
        match self {
            Self::Age(_) => Reason::Age,
            Self::Quota { .. } => Reason::Quota,
            Self::Space => Reason::Space,
        }
    }
}

/// What should go.
#[derive(Debug)]
pub(in crate::mirror) struct EvictionGoal {
    pub(in crate::mirror) reason: Reason,
    pub(in crate::mirror) bytes: u64,
    pub(in crate::mirror) authorities: Vec<String>,
    pub(in crate::mirror) unused_since: Option<Timestamp>,
}

impl Eviction {
    pub(in crate::mirror) fn new(settings: EvictionSettings, now: Timestamp) -> Self {
        let pins = Pins::new(settings.pins.clone(), now);
        Self {
            settings,
            permit: Arc::new(Semaphore::new(1)),
            leases: Leases::default(),
            undeletable: undeletable::Undeletables::default(),
            out_of_space: OutOfSpace::default(),
            pins,
        }
    }
}

impl Mirror {
    /// Evicts in the background, in small steps, until the mirror stops.
    pub async fn run_eviction(self: Arc<Self>) {
        let work = async {
            self.refresh_pins().await;
            let mut due = Instant::now() + PAUSE;
            loop {
                tokio::select! {
                    () = self.store.pressed() => {}
                    () = self.access_times.filled() => {}
                    () = tokio::time::sleep_until(due) => {}
                    () = self.index.healed() => {
                        self.refresh_pins().await;
                        continue;
                    }
                    () = self.pending.doubted() => {
                        self.reconcile().await;
                        continue;
                    }
                }
                self.evict_now().await;
                self.refresh_pins_if_due().await;
                due = Instant::now() + PAUSE;
            }
        };
        tokio::select! {
            () = work => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Writes down what was used, and evicts down to the low marks.
    pub async fn evict_now(self: &Arc<Self>) {
        self.write_accesses().await;
        self.reconcile().await;
        self.note_leftovers().await;
        if let Err(err) = self.store.recount_quarantine(self.clock.now()).await {
            tracing::debug!(%err, "what is in quarantine cannot be counted now");
        }
        if !self.are_pins_known() {
            return;
        }
        if let Some(unused_for) = self.eviction.settings.unused_for {
            self.evict_until_done(&Pass::Age(self.monotonic(self.clock.now()).before(unused_for))).await;
        }
        for (authority, registry) in self.configured_registries() {
            if let Some(quota) = registry.policy.max_size.filter(|_| !registry.policy.offline) {
                self.evict_until_done(&Pass::Quota { authority, quota }).await;
            }
        }
        // Nobody reads what is in quarantine.
        let surplus = self.store.surplus(false);
        if surplus > 0 {
            self.store.free_quarantine(surplus).await;
        }
        self.evict_until_done(&Pass::Space).await;
        self.look_for_room().await;
        self.show_usage().await;
    }

    /// Steps until nothing is left to do, or nothing may go. Pauses as long as it works, so that hits do not wait behind it.
    async fn evict_until_done(self: &Arc<Self>, pass: &Pass) {
        let (mut bytes, mut blobs) = (0, 0);
        while let Some(wanted) = self.wanted(pass, blobs > 0).await {
            let began = Instant::now();
            let Some(permit) = self.eviction_permit().await else { break };
            let Some((permit, step)) = self.evict_step(permit, wanted).await else { break };
            drop(permit);
            bytes += step.bytes;
            blobs += step.blobs;
            // What is gone and still in the order would be chosen again.
            if !step.went_on() || !step.is_recorded {
                break;
            }
            tokio::time::sleep(began.elapsed()).await;
        }
        if blobs > 0 {
            tracing::info!(blobs, bytes, reason = pass.reason().name(), "evicted");
        }
    }

    /// What is left to do of a pass, which goes on down to the low mark once it has `begun`.
    async fn wanted(&self, pass: &Pass, begun: bool) -> Option<EvictionGoal> {
        let (bytes, authorities, unused_since) = match pass {
            Pass::Age(since) => (u64::MAX, self.evictable().await, Some(*since)),
            Pass::Quota { authority, quota } => {
                let (high, low) = self.eviction.settings.marks.of(*quota);
                let used = self.bytes_of(authority).await;
                let surplus = if used > if begun { low } else { high } { used - low } else { 0 };
                (surplus, vec![authority.to_string()], None)
            }
            Pass::Space => (self.store.surplus(begun), self.evictable().await, None),
        };
        (bytes > 0).then_some(EvictionGoal { reason: pass.reason(), bytes, authorities, unused_since })
    }

    /// Whose content may go: what is there from an upstream that can be asked again.
    pub(in crate::mirror) async fn evictable(&self) -> Vec<String> {
        let stored = self.index.stored_by_authority().await.unwrap_or_default();
        stored.into_iter().map(|(authority, _)| authority).filter(|name| self.can_come_again(name)).collect()
    }

    /// Nobody is known to have what was imported or what an index that was lost knew, and an upstream that is offline or
    /// not configured any more is not asked: that may be the last copy.
    pub(in crate::mirror) fn can_come_again(&self, authority: &str) -> bool {
        let registry = authority.parse().ok().and_then(|authority| self.registry(&authority));
        registry.is_some_and(|registry| !registry.policy.offline)
    }

    /// What an authority takes of its quota.
    pub(in crate::mirror) async fn bytes_of(&self, authority: &Authority) -> u64 {
        let uncounted = self.store.uncounted_bytes(authority);
        self.index.stored_by(authority.as_str()).await.unwrap_or(0).saturating_add(uncounted)
    }

    /// Interrupted downloads that nobody went on with go first, if something has to go.
    async fn note_leftovers(&self) {
        let now = self.clock.now().as_millis();
        let patience = u64::try_from(LEFTOVER_PATIENCE.as_millis()).unwrap_or(u64::MAX);
        // None is idle since ever: this only notes that they have been seen.
        let idle_since = if self.store.surplus(false) > 0 { now.saturating_sub(patience) } else { 0 };
        self.store.drop_leftovers(now, idle_since).await;
    }

    /// Drops what memory has of a blob whose file has gone.
    pub(in crate::mirror) fn forget_everywhere(&self, digest: Digest) {
        self.forget_in_memory(digest);
    }

    fn label_of(&self, authority: &str) -> String {
        authority.parse().map_or_else(|_nobody| "unknown".to_owned(), |authority| self.label(&authority))
    }

    async fn show_usage(&self) {
        let mut by_label: HashMap<String, u64> = HashMap::new();
        for (authority, bytes) in self.index.stored_by_authority().await.unwrap_or_default() {
            *by_label.entry(self.label_of(&authority)).or_default() += bytes;
        }
        self.metrics.used_bytes.clear();
        for (authority, bytes) in by_label {
            self.metrics.used_bytes.get_or_create(&ByAuthority { authority }).set(bytes);
        }
        if let Ok(pinned) = self.index.pinned_bytes().await {
            self.metrics.pinned_bytes.set(pinned);
        }
        self.show_stored();
    }
}
