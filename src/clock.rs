//! The time, as everything that compares times sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the Unix epoch. Kept on disk, so it must survive restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Zero when `earlier` lies ahead, as after the clock was set back.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// So long before; the epoch where there is no such time.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whole days since the epoch: the grain in which the use of a grant is remembered.
    pub const fn day(self) -> u64 {
        self.0 / 86_400_000
    }
}

/// The system's clock, which a test may move ahead.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_millis: Arc<AtomicU64>,
    /// The latest time told, and when: a clock that is set back must not make seconds of waiting into days.
    last: Arc<Mutex<Option<(u64, Instant)>>>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let running =
            last.map_or(0, |(told, at)| told.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(0)));
        let millis = if millis >= running || running - millis < 1000 { millis } else { running };
        *last = Some((millis, Instant::now()));
        drop(last);
        Timestamp(millis.saturating_add(self.ahead_millis.load(Ordering::Relaxed)))
    }

    /// Moves this clock and all its clones ahead.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead_millis.fetch_add(millis, Ordering::Relaxed);
    }
}
