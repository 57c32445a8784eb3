//! How many connections one fill uses: more while that pays.

use std::time::Duration;

use tokio::time::Instant;

/// How long a number of connections is tried before the next.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// Bytes per second. No content network that caps connections gives one as much: more of them would only cost work.
const FAST: f64 = 192.0 * 1024.0 * 1024.0;
/// The next step is worth while if it gains this part of what the added connections could bring at most.
const WORTH: f64 = 0.5;
/// Less is no gain: the step is taken back.
const LEAST_GAIN: f64 = 1.1;
/// Windows without a byte after which one more connection is tried, whatever was found before.
const IDLE_WINDOWS: u32 = 3;

/// Doubles the number of connections as long as the throughput grows nearly as much.
#[derive(Debug)]
pub(super) struct Parallelism {
    /// Never more.
    most: usize,
    target: usize,
    /// The last step that was worth while, and its bytes per second.
    best: Option<(usize, f64)>,
    settled: bool,
    since: Instant,
    bytes: u64,
    idle: u32,
}

impl Parallelism {
    pub(super) fn new(most: usize, now: Instant, bytes: u64) -> Self {
        Self { most, target: 1, best: None, settled: most < 2, since: now, bytes, idle: 0 }
    }

    pub(super) const fn target(&self) -> usize {
        self.target
    }

    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// The upstream wants no more than `connections`.
    pub(super) fn cap(&mut self, connections: usize) {
        self.most = connections.max(1).min(self.most);
        self.target = self.target.min(self.most);
        self.settled = true;
    }

    /// So many bytes are there by now, and so many connections bring more. A window counts when all that are wanted were
    /// at work in it.
    pub(super) fn sample(&mut self, now: Instant, bytes: u64, at_work: usize) {
        let elapsed = now.duration_since(self.since);
        if elapsed < WINDOW {
            return;
        }
        let rate = (bytes - self.bytes) as f64 / elapsed.as_secs_f64();
        self.idle = if bytes == self.bytes { self.idle + 1 } else { 0 };
        (self.since, self.bytes) = (now, bytes);
        if self.idle >= IDLE_WINDOWS && self.target < 2 && self.most >= 2 {
            self.target = 2;
        }
        if self.settled || at_work < self.target || self.idle > 0 {
            return;
        }
        match self.best {
            Some((before, then)) if self.target > before => {
                let could = self.target as f64 / before as f64 - 1.0;
                let gained = rate / then - 1.0;
                if gained < LEAST_GAIN - 1.0 {
                    self.target = before;
                }
                if gained < could * WORTH {
                    self.settled = true;
                    return;
                }
            }
            Some(_) | None => {}
        }
        self.best = Some((self.target, rate));
        self.settled = rate / self.target as f64 >= FAST || self.target >= self.most;
        if !self.settled {
            self.target = (self.target * 2).min(self.most);
        }
    }

    /// A connection was opened or ended: what came before belongs to another number of them.
    pub(super) fn start_window(&mut self, now: Instant, bytes: u64) {
        (self.since, self.bytes) = (now, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widens against an upstream that gives each connection `each` bytes per second, and all together `all`.
    fn ends_at(most: usize, each: u64, all: u64) -> usize {
        let mut now = Instant::now();
        let mut bytes = 0;
        let mut parallelism = Parallelism::new(most, now, 0);
        for _ in 0..20 {
            now += WINDOW;
            bytes += (each * parallelism.target() as u64).min(all) / 10;
            parallelism.sample(now, bytes, parallelism.target());
        }
        parallelism.target()
    }

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn connections_are_added_while_they_pay() {
        assert_eq!(ends_at(8, 40 * MIB, u64::MAX), 8);
        assert_eq!(ends_at(5, 40 * MIB, u64::MAX), 5);
        assert_eq!(ends_at(8, 40 * MIB, 40 * MIB), 1, "the line is full with one");
        assert_eq!(ends_at(8, 40 * MIB, 80 * MIB), 2);
        assert_eq!(ends_at(8, 40 * MIB, 130 * MIB), 4);
        assert_eq!(ends_at(1, 40 * MIB, u64::MAX), 1);
        assert_eq!(ends_at(8, 500 * MIB, u64::MAX), 1, "one is fast enough");
    }

    #[test]
    fn a_ration_narrows_for_good_and_a_stall_widens() {
        let mut now = Instant::now();
        let mut parallelism = Parallelism::new(8, now, 0);
        for bytes in [10, 30] {
            now += WINDOW;
            parallelism.sample(now, bytes * MIB, parallelism.target());
        }
        assert_eq!(parallelism.target(), 4);
        parallelism.cap(3);
        for bytes in [100, 300, 600] {
            now += WINDOW;
            parallelism.sample(now, bytes * MIB, parallelism.target());
        }
        assert_eq!(parallelism.target(), 3);
        let mut stalled = Parallelism::new(8, now, 0);
        for _ in 0..IDLE_WINDOWS {
            now += WINDOW;
            stalled.sample(now, 0, 1);
        }
        assert_eq!(stalled.target(), 2);
    }
}
