//! Single-flight: at most one fill for each registry and digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::index::Scope;
use crate::oci::{Authority, Digest, Repository};

use super::error::FillError;
use super::progress::Fill;
use crate::cache::blocks::Blocks;
use crate::cache::retention::{Lease, Leases};

type Key = (Authority, Digest);
type Running = HashMap<Key, (Arc<Fill>, Lease)>;

/// A download that runs, or waits for its turn.
#[derive(Debug, Clone, Serialize)]
pub struct RunningFill {
    pub authority: Authority,
    /// One of those that asked for it.
    pub repository: Option<Repository>,
    pub digest: Digest,
    /// `None` if the registry has not said it yet.
    pub size_bytes: Option<u64>,
    pub received_bytes: u64,
    /// Milliseconds since it was asked for.
    pub ms: u64,
    /// It has not begun.
    #[serde(rename = "waiting")]
    pub is_waiting: bool,
    /// A client waits for it; else it is fetched ahead of need.
    #[serde(rename = "asked")]
    pub is_asked: bool,
}

/// The running fills, each with a lease of its digest: what is being filled is not evicted.
#[derive(Clone)]
pub(super) struct InFlight {
    fills: Arc<Mutex<Running>>,
    leases: Leases,
}

impl InFlight {
    pub(super) fn new(leases: Leases) -> Self {
        Self { fills: Arc::default(), leases }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> T {
        work(&mut self.fills.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn running(&self, authority: &Authority, digest: Digest) -> Option<Arc<Fill>> {
        self.with(|fills| fills.get(&(authority.clone(), digest)).map(|(fill, _)| Arc::clone(fill)))
    }

    pub(super) fn list(&self, most: usize) -> (Vec<RunningFill>, usize) {
        // The fills only: what they hold is read without the lock.
        let mut fills: Vec<(Key, Arc<Fill>)> =
            self.with(|fills| fills.iter().map(|(key, (fill, _))| (key.clone(), Arc::clone(fill))).collect());
        let total = fills.len();
        fills.sort_by_key(|(_, fill)| fill.since());
        fills.truncate(most);
        let told = |((authority, digest), fill): (Key, Arc<Fill>)| RunningFill {
            authority,
            repository: fill.granted_scopes().into_iter().map(|scope| scope.repository).next(),
            digest,
            size_bytes: fill.size_bytes(),
            received_bytes: fill.there_bytes(),
            ms: u64::try_from(fill.since().elapsed().as_millis()).unwrap_or(u64::MAX),
            is_waiting: fill.is_waiting(),
            is_asked: fill.is_asked(),
        };
        (fills.into_iter().map(told).collect(), total)
    }

    /// Grants in this scope do not stand any more: running fills grant it nothing.
    pub(super) fn revoke(&self, scope: &Scope) {
        self.with(|fills| fills.values().for_each(|(fill, _)| fill.revoke(scope)));
    }

    /// Ends the fills of what nobody may read any more.
    pub(super) fn end_blocked(&self, blocks: &Blocks) {
        self.with(|fills| {
            for ((_, digest), (fill, _)) in fills {
                if let Some(blocked) = blocks.of_content(*digest) {
                    fill.block(blocked);
                }
            }
        });
    }

    /// The running fill, or a new one, whose task the caller must start. `true` if it is new.
    pub(super) fn join_or_start(
        &self,
        authority: &Authority,
        digest: Digest,
        new: impl FnOnce() -> Fill,
    ) -> (Arc<Fill>, bool) {
        self.with(|fills| {
            let mut is_new = false;
            let (fill, _) = fills.entry((authority.clone(), digest)).or_insert_with(|| {
                is_new = true;
                (Arc::new(new()), self.leases.lease(vec![digest]))
            });
            (Arc::clone(fill), is_new)
        })
    }
}

/// A running fill's entry in the map. However its task ends, the entry is removed and no reader waits for ever.
pub(super) struct InFlightGuard {
    in_flight: InFlight,
    key: Key,
    fill: Arc<Fill>,
}

impl InFlightGuard {
    pub(super) fn new(in_flight: &InFlight, authority: &Authority, fill: Arc<Fill>) -> Self {
        Self { in_flight: in_flight.clone(), key: (authority.clone(), fill.digest), fill }
    }

    pub(super) fn fill(&self) -> Arc<Fill> {
        Arc::clone(&self.fill)
    }

    /// From here on, requests join `next`.
    pub(super) fn replace(&mut self, next: Arc<Fill>) {
        self.in_flight.with(|fills| {
            if let Some((fill, _)) = fills.get_mut(&self.key) {
                *fill = Arc::clone(&next);
            }
        });
        self.fill = next;
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        drop(self.in_flight.with(|fills| fills.remove(&self.key)));
        self.fill.fail(FillError::Internal("the download's task ended".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::progress::Priority;
    use crate::oci::Algorithm;

    #[tokio::test]
    async fn t31_a_fill_whose_task_dies_frees_its_place_and_cuts_its_readers() {
        let in_flight = InFlight::new(Leases::default());
        let authority: Authority = "a.test".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let scope = Scope { domain: 0, authority: authority.clone(), repository: "x".parse().unwrap() };
        let new = || Fill::new(digest, scope.clone(), Priority::Client);
        let (fill, is_new) = in_flight.join_or_start(&authority, digest, new);
        assert!(is_new && !in_flight.join_or_start(&authority, digest, new).1);
        let mut reader = fill.follow();
        let guard = InFlightGuard::new(&in_flight, &authority, fill);
        let task = tokio::spawn(async move {
            let _entry = guard;
            panic!("as a bug would have it");
        });
        assert!(reader.readable_from(0).await.is_err());
        assert!(task.await.unwrap_err().is_panic());
        assert!(in_flight.running(&authority, digest).is_none());
        assert!(in_flight.join_or_start(&authority, digest, new).1, "the next request starts one");
    }
}
