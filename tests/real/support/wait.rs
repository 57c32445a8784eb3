//! Waiting for a condition, never for a while.

use std::thread;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks until there is an answer; panics with `what` once `limit` is over.
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let asked = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(asked.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::park_timeout(LOOK_EVERY);
    }
}
