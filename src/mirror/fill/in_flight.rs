//! At most one fill per authority and digest, whoever asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::Scope;
use crate::oci::{Authority, Digest};

use crate::mirror::answer::PullError;
use crate::mirror::fill::progress::Fill;

type Key = (Authority, Digest);

#[derive(Clone, Default)]
pub(in crate::mirror) struct InFlight(Arc<Mutex<HashMap<Key, Arc<Fill>>>>);

impl InFlight {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Key, Arc<Fill>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(in crate::mirror) fn running(&self, authority: &Authority, digest: Digest) -> Option<Arc<Fill>> {
        self.with(|in_flight| in_flight.get(&(authority.clone(), digest)).cloned())
    }

    /// What is being filled.
    pub(in crate::mirror) fn digests(&self) -> HashSet<Digest> {
        self.with(|in_flight| in_flight.keys().map(|(_, digest)| *digest).collect())
    }

    /// What was said in this scope does not stand any more: running fills grant it nothing.
    pub(in crate::mirror) fn revoke(&self, scope: &Scope) {
        self.with(|in_flight| in_flight.values().for_each(|fill| fill.revoke(scope)));
    }

    /// Fills of this digest that run, each for another authority.
    pub(in crate::mirror) fn count(&self, digest: Digest) -> usize {
        self.with(|in_flight| in_flight.keys().filter(|(_, filling)| *filling == digest).count())
    }

    /// The running fill, or a new one, whose task the caller must start. `true` if it is new.
    pub(in crate::mirror) fn join_or_lead(
        &self,
        authority: &Authority,
        digest: Digest,
        new: impl FnOnce() -> Fill,
    ) -> (Arc<Fill>, bool) {
        self.with(|in_flight| {
            let mut is_new = false;
            let fill = in_flight.entry((authority.clone(), digest)).or_insert_with(|| {
                is_new = true;
                Arc::new(new())
            });
            (Arc::clone(fill), is_new)
        })
    }
}

/// A running fill's place in the map. However its task ends, the place is freed and no reader waits for ever.
pub(in crate::mirror) struct InFlightGuard {
    in_flight: InFlight,
    key: Key,
    fill: Arc<Fill>,
}

impl InFlightGuard {
    pub(in crate::mirror) fn new(in_flight: &InFlight, authority: &Authority, fill: Arc<Fill>) -> Self {
        Self { in_flight: in_flight.clone(), key: (authority.clone(), fill.digest), fill }
    }

    pub(in crate::mirror) fn fill(&self) -> Arc<Fill> {
        Arc::clone(&self.fill)
    }

    /// From here on, who comes joins `next`.
    pub(in crate::mirror) fn replace(&mut self, next: Arc<Fill>) {
        self.in_flight.with(|in_flight| in_flight.insert(self.key.clone(), Arc::clone(&next)));
        self.fill = next;
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.with(|in_flight| in_flight.remove(&self.key));
        self.fill.fail(PullError::Internal("the download's task ended".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[tokio::test]
    async fn t31_a_fill_whose_task_dies_frees_its_place_and_cuts_its_readers() {
        let in_flight = InFlight::default();
        let authority: Authority = "a.test".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let scope = Scope { domain: 0, authority: authority.clone(), repository: "x".parse().unwrap() };
        let new = || Fill::new(digest, scope.clone());
        let (fill, is_new) = in_flight.join_or_lead(&authority, digest, new);
        assert!(is_new && !in_flight.join_or_lead(&authority, digest, new).1);
        let mut reader = fill.follow();
        let guard = InFlightGuard::new(&in_flight, &authority, fill);
        let task = tokio::spawn(async move {
            let _entry = guard;
            panic!("as a bug would have it");
        });
        assert!(reader.readable_from(0).await.is_err());
        assert!(task.await.unwrap_err().is_panic());
        assert!(in_flight.running(&authority, digest).is_none());
        assert!(in_flight.join_or_lead(&authority, digest, new).1, "the next request leads");
    }
}
