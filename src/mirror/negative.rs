//! What upstream said is not there, believed for seconds.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::index::Scope;
use crate::oci::{Digest, Reference};

use super::{Member, Mirror};

/// What was asked for in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

/// Entries of the negative cache.
const MAX_ENTRIES: u64 = 100_000;

pub(super) type Negatives = moka::sync::Cache<(Scope, Asked), Timestamp>;

pub(super) fn negatives() -> Negatives {
    moka::sync::Cache::new(MAX_ENTRIES)
}

impl Mirror {
    pub(super) fn is_known_missing(&self, scope: &Scope, asked: Asked) -> bool {
        let until = self.negatives.get(&(scope.clone(), asked));
        until.is_some_and(|until| self.clock.now() < until)
    }

    pub(super) fn remember_missing(&self, member: &Member, scope: &Scope, asked: Asked) {
        self.remember_missing_for(member.policy.negative_ttl, scope, asked);
    }

    pub(super) fn remember_missing_for(&self, ttl: Duration, scope: &Scope, asked: Asked) {
        if !ttl.is_zero() {
            let key = (scope.clone(), asked);
            let now = self.clock.now();
            // A remembered answer does not renew itself.
            if self.negatives.get(&key).is_none_or(|until| until <= now) {
                self.negatives.insert(key, now.plus(ttl));
            }
        }
    }
}
