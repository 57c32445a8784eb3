//! 404s and denials believed for seconds.

use std::time::Duration;

use super::error::PullError;
use crate::clock::{Clock, Timestamp};
use crate::index::Scope;
use crate::oci::{Digest, Reference};
use crate::upstream::UpstreamError;

/// A question in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

const MAX_ENTRIES: u64 = 100_000;

/// What upstream said: that the content is not there, or the denial.
#[derive(Debug, Clone)]
enum Said {
    Missing,
    Denied(UpstreamError),
}

/// What upstream does not give, and until when that is believed.
pub(super) struct NegativeCache {
    clock: Clock,
    said: moka::sync::Cache<(Scope, Asked), (Said, Timestamp)>,
}

impl NegativeCache {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, said: moka::sync::Cache::new(MAX_ENTRIES) }
    }

    pub(super) fn is_missing(&self, scope: &Scope, asked: Asked) -> bool {
        matches!(self.said(scope, asked), Some(Said::Missing))
    }

    /// The denial of this question, if it is still believed.
    pub(super) fn denial(&self, scope: &Scope, asked: Asked) -> Option<PullError> {
        match self.said(scope, asked)? {
            Said::Missing => None,
            Said::Denied(error) => Some(error.into()),
        }
    }

    fn said(&self, scope: &Scope, asked: Asked) -> Option<Said> {
        let (said, until) = self.said.get(&(scope.clone(), asked))?;
        (self.clock.now() < until).then_some(said)
    }

    /// Believes a 404 for `ttl`. An answer that is remembered already is not renewed.
    pub(super) fn remember(&self, scope: &Scope, asked: Asked, ttl: Duration) {
        self.believe(scope, asked, Said::Missing, ttl);
    }

    /// Believes a denial for `ttl`; other errors are not remembered. A refused login is none: it is left alone by itself.
    pub(super) fn remember_denial(&self, scope: &Scope, asked: Asked, error: &PullError, ttl: Duration) {
        if let PullError::Upstream(denial) = error
            && error.is_denied()
        {
            self.believe(scope, asked, Said::Denied(denial.clone()), ttl);
        }
    }

    /// Believes nothing of a question any more.
    pub(super) fn forget(&self, scope: &Scope, asked: Asked) {
        self.said.invalidate(&(scope.clone(), asked));
    }

    fn believe(&self, scope: &Scope, asked: Asked, said: Said, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let key = (scope.clone(), asked);
        let now = self.clock.now();
        if self.said.get(&key).is_none_or(|(_, until)| until <= now) {
            self.said.insert(key, (said, now.plus(ttl)));
        }
    }
}
