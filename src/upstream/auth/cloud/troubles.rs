//! The identities that a cloud gives no token for, for the operator: one warning when that begins, and a line in `/readyz` and
//! `status` until there is one again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::CloudError;
use crate::health::Health;
use crate::metrics::{ByTrouble, Metrics};

pub(super) struct CloudTroubles {
    /// The upstream.
    name: String,
    health: Health,
    metrics: Metrics,
    /// The sentences that stand, by identity. Few: an upstream has as many as credential rules.
    told: Mutex<HashMap<String, String>>,
}

impl CloudTroubles {
    pub(super) fn new(name: String, health: Health, metrics: Metrics) -> Self {
        Self { name, health, metrics, told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over how the last request for a token of an identity ended. A failure that goes on is told once, whatever its
    /// cause becomes.
    pub(super) fn tell(&self, identity: &str, failure: Option<&CloudError>) {
        let mut told = self.told();
        match (failure, told.contains_key(identity)) {
            (Some(err), false) => {
                let what = format!(
                    "{} cannot be signed in to as {identity}: {err}; it is tried again at each pull, and what is held is \
                     served stale until it works",
                    self.name
                );
                tracing::warn!(upstream = self.name, "{what}");
                self.health.begin_trouble(what.clone());
                told.insert(identity.to_owned(), what);
            }
            (None, true) => {
                if let Some(what) = told.remove(identity) {
                    self.health.end_trouble(&what);
                }
                tracing::info!(upstream = self.name, "{} is signed in to as {identity} again", self.name);
            }
            (Some(_), true) | (None, false) => return,
        }
        let labels = ByTrouble { authority: self.name.clone(), endpoint: self.name.clone(), trouble: "no_identity" };
        self.metrics.upstream_trouble.get_or_create(&labels).set(i64::from(!told.is_empty()));
    }
}

impl Drop for CloudTroubles {
    fn drop(&mut self) {
        for what in self.told().values() {
            self.health.end_trouble(what);
        }
    }
}
