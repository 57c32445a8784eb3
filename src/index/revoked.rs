//! Scopes that upstream refuses, from the moment this is known until their grants are durably dropped: a disk that takes
//! no facts must not let anyone read on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Scope;

#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// How many drops of each are on their way.
    scopes: Mutex<HashMap<Scope, usize>>,
    /// Their number: every read asks, and there are none as a rule.
    count: AtomicUsize,
}

impl Revoked {
    fn scopes(&self) -> MutexGuard<'_, HashMap<Scope, usize>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, scope: &Scope) {
        let mut scopes = self.scopes();
        *scopes.entry(scope.clone()).or_default() += 1;
        self.count.store(scopes.len(), Ordering::Release);
    }

    /// One of its drops is durable.
    pub(super) fn end(&self, scope: &Scope) {
        let mut scopes = self.scopes();
        if let Some(drops) = scopes.get_mut(scope) {
            *drops -= 1;
            if *drops == 0 {
                scopes.remove(scope);
            }
        }
        self.count.store(scopes.len(), Ordering::Release);
    }

    /// Ask before reading: a scope that is no longer here has had its grants dropped.
    pub(super) fn contains(&self, scope: &Scope) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.scopes().contains_key(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_stays_revoked_until_each_of_its_drops_is_durable() {
        let scope = |name: &str| Scope {
            domain: 0,
            authority: "docker.io".parse().unwrap(),
            repository: name.parse().unwrap(),
        };
        let (revoked, app) = (Revoked::default(), scope("org/app"));
        assert!(!revoked.contains(&app));
        revoked.begin(&app);
        revoked.begin(&app);
        revoked.end(&app);
        assert!(revoked.contains(&app) && !revoked.contains(&scope("org/other")));
        revoked.end(&app);
        assert!(!revoked.contains(&app));
        // One that is read back from a journal was never asked for here.
        revoked.end(&app);
        assert!(!revoked.contains(&app));
    }
}
