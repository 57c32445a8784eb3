//! What was used since it was last written down. A hit costs one look into a set of its own thread, and no write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::index::{Access, Change};
use crate::oci::Digest;

use crate::mirror::Mirror;

/// Threads share a set only where there are more of them.
const SHARDS: usize = 16;
/// Digests in one set. A use that finds it full is forgotten: it costs a place in the order, nothing else.
const MAX_IN_SHARD: usize = 4096;
/// Uses written in one transaction, so that none is long.
const STEP: usize = 256;

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

#[derive(Default)]
pub(in crate::mirror) struct AccessTimes {
    shards: [Mutex<HashMap<Digest, Timestamp>>; SHARDS],
    full: Notify,
    /// Where uses go on that lay ahead at the start, and the clock's uptime then.
    ahead: OnceLock<(Timestamp, Duration)>,
    /// The permit to write uses down.
    writing: tokio::sync::Mutex<()>,
}

impl AccessTimes {
    pub(in crate::mirror) fn note(&self, digest: Digest, at: Timestamp) {
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

    /// Resolves when uses begin to be forgotten.
    pub(in crate::mirror) async fn filled(&self) {
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
}

impl Mirror {
    /// A stored blob or manifest was served.
    pub(in crate::mirror) fn record_access(&self, digest: Digest, at: Timestamp) {
        self.access_times.note(digest, self.monotonic(at));
    }

    /// The time as the order of uses has it. After the clock was set back, it goes on from the last use: what comes now is
    /// not older than what was there.
    pub(in crate::mirror) fn monotonic(&self, now: Timestamp) -> Timestamp {
        match self.access_times.ahead.get() {
            None => now,
            Some((latest, then)) => now.max(latest.plus(self.clock.uptime().saturating_sub(*then))),
        }
    }

    /// Finds out whether the clock was set back. For start-up.
    pub(in crate::mirror) async fn detect_clock_set_back(&self) {
        if let Ok(Some(latest)) = self.index.latest_access().await
            && latest > self.clock.now()
        {
            tracing::warn!("the clock was set back since the last start; what was used last is still kept longest");
            // Start-up comes once.
            let _first = self.access_times.ahead.set((latest, self.clock.uptime()));
        }
    }

    /// Writes down what was used, in small steps. What cannot be written is forgotten.
    ///
    /// Whoever returns from here finds all of them written, by whomever.
    pub(in crate::mirror) async fn write_accesses(&self) {
        let _permit = self.access_times.writing.lock().await;
        for uses in self.access_times.take().chunks(STEP) {
            if self.index.apply(vec![Change::NoteAccesses(uses.to_vec())]).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn uses_are_noted_once_and_their_number_is_bounded() {
        let access_times = AccessTimes::default();
        for nth in 0..=MAX_IN_SHARD {
            for _ in 0..2 {
                let digest = Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
                access_times.note(digest, Timestamp::from_millis(nth as u64));
            }
        }
        let uses = access_times.take();
        assert_eq!(uses.len(), MAX_IN_SHARD);
        assert!(uses.is_sorted_by_key(|noted| noted.at) && access_times.take().is_empty());
    }
}
