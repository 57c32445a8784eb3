//! 404s believed for seconds.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::index::Scope;
use crate::oci::{Digest, Reference};

/// A question in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

const MAX_ENTRIES: u64 = 100_000;

/// Content that upstream said is not there, and until when that is believed.
pub(super) struct NegativeCache {
    clock: Clock,
    until: moka::sync::Cache<(Scope, Asked), Timestamp>,
}

impl NegativeCache {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, until: moka::sync::Cache::new(MAX_ENTRIES) }
    }

    pub(super) fn is_missing(&self, scope: &Scope, asked: Asked) -> bool {
        let until = self.until.get(&(scope.clone(), asked));
        until.is_some_and(|until| self.clock.now() < until)
    }

    /// Believes a 404 for `ttl`. An answer that is remembered already is not renewed.
    pub(super) fn remember(&self, scope: &Scope, asked: Asked, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let key = (scope.clone(), asked);
        let now = self.clock.now();
        if self.until.get(&key).is_none_or(|until| until <= now) {
            self.until.insert(key, now.plus(ttl));
        }
    }
}
