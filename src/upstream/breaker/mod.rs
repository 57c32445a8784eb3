//! A circuit breaker per endpoint: a dead or rate-limiting upstream costs one wait per window, not one per pull.

pub(super) mod trouble;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};

use crate::upstream::error::{BreakerCause, Failure};

/// Manifests and blobs have separate rate limits (Docker Hub counts manifests only) and separate connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Manifests,
    Blobs,
}

impl Lane {
    const fn other(self) -> Self {
        match self {
            Self::Manifests => Self::Blobs,
            Self::Blobs => Self::Manifests,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Blobs => "blobs",
        }
    }
}

/// A probe without a verdict after this time counts as lost.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// A longer window is probed this often: what was said to be over in hours may be over sooner.
const PROBE_EVERY: Duration = Duration::from_hours(1);
/// Longest wait of a blob for a probe's verdict. Clients request all layers at once, and one failure fails the pull.
const MAX_VERDICT_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Breaker {
    clock: Clock,
    manifests: Mutex<State>,
    blobs: Mutex<State>,
    /// Whether a lane is not closed, by lane. Read on the path of hits.
    tripped: [AtomicBool; 2],
    /// A probe has ended.
    verdict: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Timestamp,
        /// When a request may probe; not later than `until`.
        probe: Timestamp,
        cause: BreakerCause,
    },
    /// Half open: one request probes whether the endpoint is back.
    Probing {
        /// When the probe counts as lost.
        limit: Timestamp,
        /// The end of the window that was open before.
        until: Timestamp,
        cause: BreakerCause,
    },
}

impl State {
    fn refusal(self, now: Timestamp) -> Option<Failure> {
        let soon = Duration::from_secs(1);
        match self {
            Self::Open { until, probe, cause } if now < probe => {
                Some(Failure::BreakerOpen { cause, retry_after: until.since(now).max(soon) })
            }
            // A probe usually ends long before its limit.
            Self::Probing { limit, cause, .. } if now < limit => {
                Some(Failure::BreakerOpen { cause, retry_after: soon })
            }
            Self::Closed | Self::Open { .. } | Self::Probing { .. } => None,
        }
    }
}

/// The permit to ask the endpoint once. If it is dropped without a verdict, the next request may probe.
#[derive(Debug)]
pub(super) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    lane: Lane,
    /// What opened the breaker, and the end of its window.
    probing: Option<(BreakerCause, Timestamp)>,
}

impl Breaker {
    pub(super) fn new(clock: Clock) -> Self {
        let lane = || Mutex::new(State::Closed);
        Self { clock, manifests: lane(), blobs: lane(), tripped: Default::default(), verdict: Notify::new() }
    }

    fn state(&self, lane: Lane) -> MutexGuard<'_, State> {
        let state = match lane {
            Lane::Manifests => &self.manifests,
            Lane::Blobs => &self.blobs,
        };
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, lane: Lane, state: State) {
        *self.state(lane) = state;
        self.changed();
    }

    fn changed(&self) {
        for (lane, tripped) in [Lane::Manifests, Lane::Blobs].into_iter().zip(&self.tripped) {
            let state = self.state(lane);
            tripped.store(*state != State::Closed, Ordering::Relaxed);
        }
        self.verdict.notify_waiters();
    }

    /// Whether the lane is not closed: it refuses, or the next request is a probe. Costs a hit one load.
    pub(super) fn is_tripped(&self, lane: Lane) -> bool {
        let [manifests, blobs] = &self.tripped;
        let tripped = match lane {
            Lane::Manifests => manifests,
            Lane::Blobs => blobs,
        };
        tripped.load(Ordering::Relaxed)
    }

    /// Closes the other lane too if its window has passed: an unreachable endpoint is back for both lanes.
    fn close_both(&self, answered: Lane) {
        let now = self.clock.now();
        {
            let mut other = self.state(answered.other());
            if matches!(*other, State::Open { until, cause, .. } if until <= now && cause != BreakerCause::RateLimited)
            {
                *other = State::Closed;
            }
        }
        self.set(answered, State::Closed);
    }

    /// Opens for `window`. A longer window that is already open stays: a rate limit of an hour outlasts a timeout.
    fn open(&self, lane: Lane, window: Duration, cause: BreakerCause) {
        let now = self.clock.now();
        let (until, probe) = (now.plus(window), now.plus(window.min(PROBE_EVERY)));
        let mut state = self.state(lane);
        match *state {
            State::Open { until: known, .. } if known > until => {}
            State::Probing { until: known, cause, .. } if known > until => {
                *state = State::Open { until: known, probe: now.plus(known.since(now).min(PROBE_EVERY)), cause };
            }
            State::Closed | State::Open { .. } | State::Probing { .. } => *state = State::Open { until, probe, cause },
        }
        drop(state);
        self.changed();
    }

    /// As [`Self::admit`], but a blob waits for the verdict of a running probe.
    pub(super) async fn admitted(&self, lane: Lane, max_wait: Duration) -> Result<BreakerPermit<'_>, Failure> {
        let until = tokio::time::Instant::now() + max_wait.min(MAX_VERDICT_WAIT);
        loop {
            let mut verdict = std::pin::pin!(self.verdict.notified());
            verdict.as_mut().enable();
            match self.admit(lane) {
                Err(refusal) if lane == Lane::Blobs && self.is_probing(lane) => {
                    if tokio::time::timeout_at(until, verdict).await.is_err() {
                        return Err(refusal);
                    }
                }
                admitted => return admitted,
            }
        }
    }

    fn is_probing(&self, lane: Lane) -> bool {
        matches!(*self.state(lane), State::Probing { .. })
    }

    /// Whether [`Self::admitted`] would refuse now. Starts no probe.
    pub(super) fn refuses(&self, lane: Lane) -> Option<Failure> {
        let now = self.clock.now();
        let state = self.state(lane);
        let waits = lane == Lane::Blobs && matches!(*state, State::Probing { .. });
        state.refusal(now).filter(|_| !waits)
    }

    pub(super) fn admit(&self, lane: Lane) -> Result<BreakerPermit<'_>, Failure> {
        let now = self.clock.now();
        let mut state = self.state(lane);
        if let Some(refusal) = state.refusal(now) {
            return Err(refusal);
        }
        match *state {
            State::Closed => Ok(BreakerPermit { breaker: self, lane, probing: None }),
            State::Open { until, cause, .. } | State::Probing { until, cause, .. } => {
                *state = State::Probing { limit: now.plus(PROBE_LIMIT), until, cause };
                Ok(BreakerPermit { breaker: self, lane, probing: Some((cause, until)) })
            }
        }
    }

    /// Why each lane is not closed, and until when it refuses; `None` for a closed one.
    pub(super) fn causes(&self) -> [(Lane, Option<(BreakerCause, Timestamp)>); 2] {
        [Lane::Manifests, Lane::Blobs].map(|lane| match *self.state(lane) {
            State::Closed => (lane, None),
            State::Open { until, cause, .. } | State::Probing { until, cause, .. } => (lane, Some((cause, until))),
        })
    }

    pub(super) fn is_open(&self, lane: Lane) -> bool {
        *self.state(lane) != State::Closed
    }
}

impl BreakerPermit<'_> {
    /// Reports that the endpoint answered, with any status. A request from before the breaker opened does not close it.
    pub(super) fn answered(mut self) {
        if self.probing.take().is_some() {
            self.breaker.close_both(self.lane);
        }
    }

    /// Opens the breaker for `window`. An unreachable endpoint opens both lanes, unless a redirect had already led
    /// elsewhere.
    pub(super) fn failed(mut self, cause: BreakerCause, window: Duration, lane_only: bool) {
        self.probing = None;
        self.breaker.open(self.lane, window, cause);
        if cause != BreakerCause::RateLimited && !lane_only {
            self.breaker.open(self.lane.other(), window, cause);
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some((cause, until)) = self.probing {
            let now = self.breaker.clock.now();
            self.breaker.set(self.lane, State::Open { until: until.max(now), probe: now, cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn an_open_breaker_lets_one_probe_through_when_its_window_has_passed() {
        let clock = Clock::default();
        let breaker = Breaker::new(clock.clone());
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::Unreachable, WINDOW, false);
        assert!(breaker.admit(Lane::Manifests).is_err() && breaker.admit(Lane::Blobs).is_err());
        clock.advance(WINDOW);
        let probe = breaker.admit(Lane::Manifests).unwrap();
        assert!(breaker.admit(Lane::Manifests).is_err(), "a second request does not probe");
        drop(probe);
        breaker.admit(Lane::Manifests).unwrap().answered();
        assert!(!breaker.is_open(Lane::Manifests) && !breaker.is_open(Lane::Blobs), "it is back, for both");
    }

    #[test]
    fn a_long_window_is_probed_and_stays_if_the_probe_fails() {
        let clock = Clock::default();
        let breaker = Breaker::new(clock.clone());
        let retry_after = || match breaker.admit(Lane::Manifests) {
            Err(Failure::BreakerOpen { retry_after, .. }) => Some(retry_after),
            _ => None,
        };
        let hours = Duration::from_hours;
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::RateLimited, hours(6), false);
        clock.advance(Duration::from_mins(59));
        assert_eq!(retry_after(), Some(hours(5) + Duration::from_mins(1)));
        clock.advance(Duration::from_mins(1));
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::RateLimited, WINDOW, false);
        assert_eq!(retry_after(), Some(hours(5)));
        clock.advance(hours(1));
        drop(breaker.admit(Lane::Manifests).unwrap());
        breaker.admit(Lane::Manifests).unwrap().answered();
        assert!(!breaker.is_open(Lane::Manifests));
    }

    #[test]
    fn an_answer_in_one_lane_leaves_the_others_own_window_alone() {
        let clock = Clock::default();
        let breaker = Breaker::new(clock.clone());
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::Unreachable, WINDOW, false);
        clock.advance(WINDOW);
        breaker.admit(Lane::Blobs).unwrap().failed(BreakerCause::Unreachable, WINDOW, true);
        breaker.admit(Lane::Manifests).unwrap().answered();
        assert!(breaker.admit(Lane::Blobs).is_err());
    }

    #[tokio::test]
    async fn a_blob_waits_for_the_verdict_of_a_probe_and_a_manifest_does_not() {
        let clock = Clock::default();
        let breaker = Breaker::new(clock.clone());
        let hour = Duration::from_hours(1);
        for is_back in [true, false] {
            breaker.admit(Lane::Blobs).unwrap().failed(BreakerCause::Unreachable, WINDOW, false);
            clock.advance(WINDOW);
            let probe = breaker.admit(Lane::Blobs).unwrap();
            let manifest = breaker.admit(Lane::Manifests).unwrap();
            assert!(breaker.admitted(Lane::Manifests, hour).await.is_err());
            drop(manifest);
            let mut waiting = std::pin::pin!(breaker.admitted(Lane::Blobs, hour));
            assert!(futures_util::poll!(waiting.as_mut()).is_pending() && breaker.refuses(Lane::Blobs).is_none());
            if is_back {
                probe.answered();
            } else {
                probe.failed(BreakerCause::Unreachable, WINDOW, false);
            }
            assert_eq!(waiting.await.is_ok(), is_back);
        }
    }

    #[test]
    fn a_ration_of_manifests_leaves_blobs_alone() {
        let breaker = Breaker::new(Clock::default());
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::RateLimited, WINDOW, false);
        assert!(breaker.admit(Lane::Manifests).is_err());
        assert!(breaker.admit(Lane::Blobs).is_ok());
    }

    #[test]
    fn t28_an_answer_to_an_older_request_does_not_close_an_open_breaker() {
        let clock = Clock::default();
        let breaker = Breaker::new(clock.clone());
        let older = breaker.admit(Lane::Manifests).unwrap();
        breaker.admit(Lane::Manifests).unwrap().failed(BreakerCause::RateLimited, 6 * WINDOW, false);
        older.answered();
        assert!(breaker.admit(Lane::Manifests).is_err());
        // A failure of the other lane does not shorten the rate limit either.
        breaker.admit(Lane::Blobs).unwrap().failed(BreakerCause::Unreachable, WINDOW, false);
        clock.advance(2 * WINDOW);
        assert!(breaker.admit(Lane::Manifests).is_err() && breaker.admit(Lane::Blobs).is_ok());
    }
}
