//! What was used since it was last written down. A hit costs one look into a map of its own thread, and no write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::index::{Access, Index, NoteAccesses};
use crate::oci::Digest;

/// Threads share a map only where there are more of them.
const SHARDS: usize = 16;
/// Digests in one map. A use that finds it full is forgotten, which costs a place in the order and nothing else.
const MAX_IN_SHARD: usize = 4096;
/// Uses written in one transaction, so that none is long. An image that is used is as many as it has layers.
const STEP: usize = 1024;

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

/// Uses that are remembered after they were written: those that the order, which knows minutes, may not tell.
const LATELY: Duration = Duration::from_mins(5);
const MAX_LATELY: usize = 65_536;

/// When each blob and manifest was last served.
pub struct AccessTimes {
    clock: Clock,
    lately: Mutex<Arc<HashMap<Digest, Timestamp>>>,
    shards: [Mutex<HashMap<Digest, Timestamp>>; SHARDS],
    full: Notify,
    /// The latest use that lay ahead at the start, and the clock's uptime then.
    ahead: OnceLock<(Timestamp, Duration)>,
    /// One writer at a time.
    writing: tokio::sync::Mutex<()>,
}

impl AccessTimes {
    pub(in crate::cache) fn new(clock: Clock) -> Self {
        Self {
            clock,
            lately: Mutex::default(),
            shards: Default::default(),
            full: Notify::new(),
            ahead: OnceLock::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// A stored blob or manifest was served.
    pub fn record(&self, digest: Digest, at: Timestamp) {
        let at = self.monotonic(at);
        let shard = self.shards.get(SHARD.with(|nth| *nth)).expect("a remainder is smaller than its divisor");
        let mut uses = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = uses.get_mut(&digest) {
            *latest = at;
            return;
        }
        if uses.len() >= MAX_IN_SHARD {
            self.full.notify_one();
            return;
        }
        uses.insert(digest, at);
    }

    /// After the clock was set back, time goes on from the last use: what comes now is not older than what was there.
    pub fn monotonic(&self, now: Timestamp) -> Timestamp {
        match self.ahead.get() {
            None => now,
            Some((latest, then)) => now.max(latest.plus(self.clock.uptime().saturating_sub(*then))),
        }
    }

    /// Resolves when uses begin to be forgotten.
    pub(super) async fn filled(&self) {
        self.full.notified().await;
    }

    fn take(&self) -> Vec<Access> {
        let mut uses = HashMap::new();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for (digest, at) in taken {
                let latest: &mut Timestamp = uses.entry(digest).or_default();
                *latest = at.max(*latest);
            }
        }
        let mut uses: Vec<Access> = uses.into_iter().map(|(digest, at)| Access { digest, at }).collect();
        uses.sort_unstable_by_key(|noted| (noted.at, noted.digest));
        uses
    }

    /// What was used in the last minutes, with what it lists, as of the last [`Self::write`].
    pub(super) fn lately(&self) -> Arc<HashMap<Digest, Timestamp>> {
        Arc::clone(&self.lately.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn remember(&self, index: &Index, uses: &[Access]) {
        if uses.is_empty() {
            return;
        }
        // Where the index does not say what is listed, the order has the last word.
        let all = index.with_listed(uses.to_vec(), MAX_LATELY).await.unwrap_or_default();
        let since = self.monotonic(self.clock.now()).before(LATELY);
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = Arc::make_mut(&mut lately);
        lately.retain(|_, at| *at >= since);
        for Access { digest, at } in all {
            if lately.len() < MAX_LATELY || lately.contains_key(&digest) {
                let latest = lately.entry(digest).or_default();
                *latest = at.max(*latest);
            }
        }
    }

    /// Finds out whether the clock was set back. For start-up.
    pub(in crate::cache) async fn detect_clock_set_back(&self, index: &Index) {
        if let Ok(Some(latest)) = index.latest_access().await
            && latest > self.clock.now()
        {
            tracing::warn!("the clock was set back since the last start; what was used last is still kept longest");
            // Start-up comes once.
            let _first = self.ahead.set((latest, self.clock.uptime()));
        }
    }

    /// Writes down what was used, in small steps. What cannot be written is forgotten. When this returns, every use
    /// recorded before the call is written, by this call or another.
    pub async fn write(&self, index: &Index) {
        let _one_writer = self.writing.lock().await;
        let all = self.take();
        self.remember(index, &all).await;
        let mut step = Vec::new();
        for used in all {
            let Ok(reached) = index.reached_by(used).await else { return };
            step.extend(reached);
            while step.len() >= STEP {
                let rest = step.split_off(STEP);
                if index.apply(vec![NoteAccesses(std::mem::replace(&mut step, rest)).into()]).await.is_err() {
                    return;
                }
            }
        }
        if !step.is_empty() {
            // The index has logged a failure.
            let _logged = index.apply(vec![NoteAccesses(step).into()]).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn uses_are_noted_once_and_their_number_is_bounded() {
        let access_times = AccessTimes::new(Clock::default());
        for nth in 0..=MAX_IN_SHARD {
            for _ in 0..2 {
                let digest = Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
                access_times.record(digest, Timestamp::from_millis(nth as u64));
            }
        }
        let uses = access_times.take();
        assert_eq!(uses.len(), MAX_IN_SHARD);
        assert!(uses.is_sorted_by_key(|noted| noted.at) && access_times.take().is_empty());
    }
}
