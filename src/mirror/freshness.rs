//! One decision for tags and lists: fresh, stale for a reason, or to be checked.

use std::time::Duration;

use super::error::PullError;
use super::policy::{Policy, Ttl};
use crate::clock::Timestamp;

/// A failed check is not repeated sooner.
pub(super) const MIN_DEFERRAL: Duration = Duration::from_secs(10);
/// Longest time that a failed check puts off the next one, where the time to live is not longer. A longer ration is looked
/// at this often.
const MAX_DEFERRAL: Duration = Duration::from_hours(1);

/// When a tag or list was last checked, and until when a failed check puts off the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) checked: Timestamp,
    pub(super) hold_until: Timestamp,
}

/// Whether a held copy may be served without asking upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// Upstream is not asked, for this reason.
    Stale(String),
    /// Upstream has to be asked.
    Ask,
}

impl Freshness {
    /// A time that lies ahead was written down before the clock was set back, and is not believed.
    pub(super) fn of(Check { checked, hold_until }: Check, ttl: Ttl, policy: &Policy, now: Timestamp) -> Self {
        let ttl = match ttl {
            Ttl::Immutable => return Self::Fresh,
            Ttl::For(ttl) => ttl,
        };
        if is_young(checked, ttl, now) {
            return Self::Fresh;
        }
        let is_put_off = checked <= now && now < hold_until && hold_until.since(now) <= ttl.max(MAX_DEFERRAL);
        let because = if policy.offline {
            "this upstream is offline by configuration"
        } else if is_put_off {
            "the last check failed a moment ago"
        } else {
            return Self::Ask;
        };
        if policy.within_max_stale(now.since(checked)) { Self::Stale(because.to_owned()) } else { Self::Ask }
    }
}

/// Whether something was checked within `ttl`.
pub(super) fn is_young(checked: Timestamp, ttl: Duration, now: Timestamp) -> bool {
    checked <= now && now.since(checked) < ttl
}

/// How long a failed check puts off the next one.
pub(super) fn deferral(ttl: Ttl, error: &PullError) -> Duration {
    let ttl = match ttl {
        Ttl::For(ttl) => ttl,
        Ttl::Immutable => Duration::ZERO,
    };
    ttl.max(MIN_DEFERRAL).max(error.retry_after().unwrap_or_default().min(MAX_DEFERRAL))
}
