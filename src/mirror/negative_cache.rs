//! What upstream said is not there, believed for seconds.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::index::Scope;
use crate::oci::{Digest, Reference};

use crate::mirror::{Mirror, Registry};

/// What was asked for in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::mirror) enum Asked {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

/// Entries of the negative cache.
const MAX_ENTRIES: u64 = 100_000;

pub(in crate::mirror) type NegativeCache = moka::sync::Cache<(Scope, Asked), Timestamp>;

pub(in crate::mirror) fn negative_cache() -> NegativeCache {
    moka::sync::Cache::new(MAX_ENTRIES)
}

impl Mirror {
    pub(in crate::mirror) fn is_known_missing(&self, scope: &Scope, asked: Asked) -> bool {
        let until = self.negative_cache.get(&(scope.clone(), asked));
        until.is_some_and(|until| self.clock.now() < until)
    }

    pub(in crate::mirror) fn remember_missing(&self, registry: &Registry, scope: &Scope, asked: Asked) {
        self.remember_missing_for(registry.policy.negative_ttl, scope, asked);
    }

    pub(in crate::mirror) fn remember_missing_for(&self, ttl: Duration, scope: &Scope, asked: Asked) {
        if !ttl.is_zero() {
            let key = (scope.clone(), asked);
            let now = self.clock.now();
            // A remembered answer does not renew itself.
            if self.negative_cache.get(&key).is_none_or(|until| until <= now) {
                self.negative_cache.insert(key, now.plus(ttl));
            }
        }
    }
}
