//! How long a client may take nothing, and how slowly it may take: less of both while most places of requests are taken.

use std::sync::Arc;
use std::time::Duration;

use super::access_log::Counts;

/// The limit while most places are taken.
const CROWDED: Duration = Duration::from_secs(5);
/// Bytes in a second that a client has to take meanwhile, of the time that it is waited for.
const LEAST_RATE: u64 = 16 * 1024;

/// The longest time for which a client may take nothing.
#[derive(Clone)]
pub(in crate::server) struct StallLimit {
    usual: Duration,
    counts: Option<Arc<Counts>>,
}

impl From<Duration> for StallLimit {
    fn from(usual: Duration) -> Self {
        Self { usual, counts: None }
    }
}

impl StallLimit {
    /// `usual`, or less while most places of `counts` are taken.
    pub(in crate::server) const fn new(usual: Duration, counts: Arc<Counts>) -> Self {
        Self { usual, counts: Some(counts) }
    }

    /// The limit of this moment.
    pub(in crate::server) fn now(&self) -> Duration {
        let is_crowded = self.counts.as_ref().is_some_and(|counts| counts.is_crowded());
        if is_crowded { self.usual.min(CROWDED) } else { self.usual }
    }

    /// Whether a client that was waited for so long is to go, for it has taken so little.
    pub(in crate::server) fn is_too_slow(&self, waited: Duration, taken_bytes: u64) -> bool {
        let least = u128::from(LEAST_RATE) * waited.as_millis() / 1000;
        u128::from(taken_bytes) < least && self.counts.as_ref().is_some_and(|counts| counts.is_crowded())
    }

    /// Whether a client was waited for long enough to tell how fast it is.
    pub(in crate::server) const fn can_tell(waited: Duration) -> bool {
        waited.as_millis() >= CROWDED.as_millis()
    }

    /// When to look at [`Self::now`] again.
    pub(in crate::server) fn look_every(&self) -> Duration {
        if self.counts.is_some() { self.usual.min(CROWDED) } else { self.usual }
    }
}
