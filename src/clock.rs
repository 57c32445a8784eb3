//! The clock that all comparisons of times use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the Unix epoch. Timestamps are stored on disk, so they must be valid across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if it lies ahead, as after the clock was set back.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time `duration` earlier, at least the epoch.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// In UTC, to the second, as in `2026-11-27T03:20:16Z`.
    pub fn rfc3339(self) -> String {
        // The largest time that the format has: the year 9999.
        const LAST_MILLIS: u64 = 253_402_300_799_000;
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MILLIS));
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// Whole days since the epoch, the precision of a grant's last use.
    pub const fn day(self) -> u64 {
        self.0 / 86_400_000
    }
}

/// The system's clock, which a test may move.
#[derive(Debug, Clone)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ahead_millis: AtomicU64,
    back_millis: AtomicU64,
    started: Instant,
    /// Time of the system's clock at `started`. Setting the clock back does not change it, so that a wait of seconds
    /// does not become one of days.
    epoch_millis: AtomicU64,
}

/// A clock set back by less is followed: time synchronisation does that.
const BELIEVED_MILLIS: u64 = 1000;

impl Default for Clock {
    fn default() -> Self {
        let shared = Shared {
            ahead_millis: AtomicU64::new(0),
            back_millis: AtomicU64::new(0),
            started: Instant::now(),
            epoch_millis: AtomicU64::new(system_millis()),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Clock {
    /// The time now. It does not go back by a second or more while the process runs.
    pub fn now(&self) -> Timestamp {
        let Shared { ahead_millis, back_millis, started, epoch_millis } = &*self.shared;
        let read = system_millis();
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(0);
        let epoch = epoch_millis.load(Ordering::Relaxed);
        let running = epoch.saturating_add(elapsed);
        let millis = believed(read, running);
        // Rounding makes up to a millisecond, which is not worth a write to shared memory.
        if millis.abs_diff(running) > 1 {
            epoch_millis.store(millis.saturating_sub(elapsed), Ordering::Relaxed);
        }
        let ahead = millis.saturating_add(ahead_millis.load(Ordering::Relaxed));
        Timestamp(ahead.saturating_sub(back_millis.load(Ordering::Relaxed)))
    }

    /// Moves this clock and all its clones ahead.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.shared.ahead_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Moves this clock and all its clones back, as a restart would see a system clock that was set back.
    pub fn set_back(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.shared.back_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Time since this clock was made, independent of changes to the system's clock.
    pub fn uptime(&self) -> Duration {
        let ahead = Duration::from_millis(self.shared.ahead_millis.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_add(ahead)
    }
}

/// The system's time, unless its clock was set back; then the time counted by this process.
const fn believed(read: u64, running: u64) -> u64 {
    if read >= running || running - read < BELIEVED_MILLIS { read } else { running }
}

fn system_millis() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_does_not_follow_a_clock_that_is_set_back() {
        let hour = 3_600_000;
        assert_eq!(believed(10 * hour, 10 * hour - 5), 10 * hour);
        assert_eq!(believed(11 * hour, 10 * hour), 11 * hour, "set ahead");
        assert_eq!(believed(10 * hour, 10 * hour + 999), 10 * hour, "kept in step");
        assert_eq!(believed(9 * hour, 10 * hour), 10 * hour);
        let earlier = Timestamp::from_millis(hour);
        assert_eq!(
            earlier.since(Timestamp::from_millis(2 * hour)),
            Duration::ZERO,
            "nor is anything of another life old"
        );
    }
}
