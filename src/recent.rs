//! The slowest answers and the last failures, for operators. Both lists are short, and a hit costs one comparison.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Timestamp};

/// Entries of each list.
pub const MOST: usize = 50;
/// An answer that took less is not slow.
const SLOW: Duration = Duration::from_secs(1);
/// An answer that is older is forgotten: another one may be among the slowest.
const KEPT: Duration = Duration::from_hours(24);
/// Longest text of a failure. Bytes.
const MAX_ERROR_BYTES: usize = 2000;

/// An answer that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowPull {
    /// When it ended.
    pub at: Timestamp,
    #[serde(flatten)]
    pub asked: Asked,
    /// How it was answered, as in the access log.
    pub outcome: &'static str,
    pub ms: u64,
    /// Of these, until the first byte of the body. What is slow then is this mirror or its upstream; later it may be the client.
    pub first_byte_ms: Option<u64>,
    pub bytes: u64,
}

/// Requests that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedPull {
    /// When the last one ended.
    pub at: Timestamp,
    /// The last one.
    #[serde(flatten)]
    pub asked: Asked,
    /// What the client got; 200 and the like where the answer was cut later.
    pub status: u16,
    pub error: String,
    /// What an operator can do.
    pub remedy: &'static str,
    pub count: u64,
}

/// What a request was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Its id in the access log.
    pub request: String,
    /// `manifest`, `blob` and so on, as in the access log.
    pub kind: &'static str,
    /// Empty if it led to no registry.
    pub authority: String,
    pub repository: String,
    /// A tag or a digest.
    pub reference: String,
}

/// Both lists, shared by clones.
#[derive(Clone)]
pub struct Recent {
    clock: Clock,
    shared: Arc<Shared>,
}

struct Shared {
    /// What an answer has to exceed to be among the slowest. Nanoseconds.
    floor_nanos: AtomicU64,
    /// The slowest first.
    slow: Mutex<Vec<SlowPull>>,
    /// The last one first.
    failed: Mutex<VecDeque<FailedPull>>,
}

impl Recent {
    /// Both are empty.
    pub fn new(clock: Clock) -> Self {
        let floor_nanos = AtomicU64::new(nanos(SLOW));
        Self { clock, shared: Arc::new(Shared { floor_nanos, slow: Mutex::default(), failed: Mutex::default() }) }
    }

    /// Whether an answer that took so long is among the slowest. One load and one comparison.
    pub fn is_slow(&self, lasted: Duration) -> bool {
        nanos(lasted) > self.shared.floor_nanos.load(Ordering::Relaxed)
    }

    /// Takes in an answer of which [`Self::is_slow`] said yes; `at` is set here.
    pub fn add_slow(&self, pull: SlowPull) {
        let now = self.clock.now();
        let mut slow = locked(&self.shared.slow);
        slow.retain(|known| now.since(known.at) < KEPT);
        let place = slow.partition_point(|known| known.ms >= pull.ms);
        slow.insert(place, SlowPull { at: now, ..pull });
        slow.truncate(MOST);
        self.set_floor(&slow);
    }

    fn set_floor(&self, slow: &[SlowPull]) {
        let least = if slow.len() < MOST { None } else { slow.last() };
        let floor = least.map_or(SLOW, |least| Duration::from_millis(least.ms));
        self.shared.floor_nanos.store(nanos(floor), Ordering::Relaxed);
    }

    /// Takes in a failure; `at` and `count` are set here. One like another that is known is counted there.
    pub fn add_failed(&self, pull: FailedPull) {
        let mut failed = locked(&self.shared.failed);
        let mut error = pull.error;
        error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
        let is_same = |known: &FailedPull| known.status == pull.status && known.error == error;
        let known = failed.iter().position(is_same).and_then(|place| failed.remove(place));
        let count = known.map_or(0, |known| known.count).saturating_add(1);
        failed.push_front(FailedPull { at: self.clock.now(), error, count, ..pull });
        failed.truncate(MOST);
    }

    /// The slowest answers of the last day, the slowest first.
    pub fn slow(&self) -> Vec<SlowPull> {
        let now = self.clock.now();
        let mut slow = locked(&self.shared.slow);
        slow.retain(|known| now.since(known.at) < KEPT);
        self.set_floor(&slow);
        slow.clone()
    }

    /// The last failures, the last one first.
    pub fn failed(&self) -> Vec<FailedPull> {
        locked(&self.shared.failed).iter().cloned().collect()
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(reference: &str) -> Asked {
        let [request, authority, repository] = ["r", "docker.io", "org/app"].map(str::to_owned);
        Asked { request, kind: "blob", authority, repository, reference: reference.to_owned() }
    }

    fn slow(ms: u64) -> SlowPull {
        SlowPull { at: Timestamp::default(), asked: asked("x"), outcome: "fill", ms, first_byte_ms: None, bytes: 0 }
    }

    fn failed(error: &str) -> FailedPull {
        let (at, error) = (Timestamp::default(), error.to_owned());
        FailedPull { at, asked: asked("x"), status: 502, error, remedy: "", count: 0 }
    }

    #[test]
    fn only_the_slowest_answers_of_a_day_are_kept() {
        let clock = Clock::default();
        let recent = Recent::new(clock.clone());
        assert!(!recent.is_slow(SLOW) && recent.is_slow(SLOW + Duration::from_millis(1)));
        for nth in 0..200 {
            let ms = 2000 + (nth * 37) % 200;
            if recent.is_slow(Duration::from_millis(ms)) {
                recent.add_slow(slow(ms));
            }
        }
        let kept: Vec<u64> = recent.slow().iter().map(|pull| pull.ms).collect();
        assert_eq!(kept, (2150..2200).rev().collect::<Vec<_>>());
        assert!(!recent.is_slow(Duration::from_millis(2150)), "it costs a lock no more");
        clock.advance(KEPT);
        assert_eq!(recent.slow(), []);
        assert!(recent.is_slow(Duration::from_millis(1001)));
    }

    #[test]
    fn t135_failures_are_counted_together_and_bounded() {
        let recent = Recent::new(Clock::default());
        for _ in 0..1000 {
            recent.add_failed(failed(&"é".repeat(10_000)));
        }
        let known = recent.failed();
        assert_eq!((known.len(), known[0].count, known[0].error.len()), (1, 1000, MAX_ERROR_BYTES));
        for nth in 0..1000 {
            recent.add_failed(failed(&nth.to_string()));
        }
        let known = recent.failed();
        assert_eq!((known.len(), known[0].error.as_str(), known[49].error.as_str()), (MOST, "999", "950"));
    }
}
