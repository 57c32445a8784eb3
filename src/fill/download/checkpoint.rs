//! When it is noted how much of a running download is safe on disk.

use std::time::Duration;

use tokio::time::Instant;

/// Not worth a checkpoint.
const WORTH: u64 = 16 * 1024 * 1024;
/// A kill -9 may cost the bytes of so long. A shorter period would take the disk from readers and writers.
const EVERY: Duration = Duration::from_secs(1);
/// Until it is looked again, where nothing is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Bytes that are known to be safe.
    noted: u64,
    due: Instant,
}

impl Checkpoints {
    /// For a file whose first `left` bytes are safe already. They count as safe while they are hashed again.
    pub(super) fn new(left: u64, now: Instant) -> Self {
        Self { noted: left, due: now + EVERY }
    }

    fn is_worth(&self, hashed: u64) -> bool {
        hashed >= self.noted.saturating_add(WORTH)
    }

    pub(super) fn is_due(&self, hashed: u64, now: Instant) -> bool {
        self.is_worth(hashed) && now >= self.due
    }

    /// So many bytes are being noted; `None` if that has to wait for an earlier one.
    pub(super) fn begun(&mut self, noted: Option<u64>, now: Instant) {
        self.noted = noted.unwrap_or(self.noted);
        self.due = now + EVERY;
    }

    /// When to look again, if nothing happens before.
    pub(super) fn look_at(&self, hashed: u64, now: Instant) -> Instant {
        if self.is_worth(hashed) { self.due } else { now + LOOK_EVERY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_is_never_noted_as_less() {
        let now = Instant::now();
        let checkpoints = Checkpoints::new(10 * WORTH, now);
        for hashed in [0, WORTH, 10 * WORTH, 11 * WORTH - 1] {
            assert!(!checkpoints.is_due(hashed, now + 10 * EVERY), "{hashed}");
        }
        assert!(checkpoints.is_due(11 * WORTH, now + EVERY));
    }

    #[test]
    fn one_is_due_as_soon_as_it_is_worth_while_and_then_each_second() {
        let now = Instant::now();
        let mut checkpoints = Checkpoints::new(0, now);
        assert!(!checkpoints.is_due(WORTH, now) && checkpoints.look_at(WORTH, now) == now + EVERY);
        let late = now + EVERY + LOOK_EVERY;
        assert!(!checkpoints.is_due(WORTH - 1, late) && checkpoints.look_at(WORTH - 1, late) == late + LOOK_EVERY);
        assert!(checkpoints.is_due(WORTH, late));
        checkpoints.begun(None, late);
        assert!(!checkpoints.is_due(WORTH, late), "an earlier one is under way");
        assert!(checkpoints.is_due(WORTH, late + EVERY));
        checkpoints.begun(Some(WORTH), late + EVERY);
        assert!(!checkpoints.is_due(2 * WORTH - 1, late + 9 * EVERY));
    }
}
