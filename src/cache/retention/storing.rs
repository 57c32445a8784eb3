//! Manifests that wait to be stored. They are in memory until then, and the wait may be long where others have to go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oci::Authority;

/// What all of them may take. Bytes.
const ALL_BYTES: usize = 64 * 1024 * 1024;
/// What those of one registry may take. Bytes.
const OF_ONE_BYTES: usize = ALL_BYTES / 2;

/// Bytes of the manifests that wait, by registry.
#[derive(Clone, Default)]
pub(super) struct Storing(Arc<Mutex<HashMap<Authority, usize>>>);

/// The right to wait, as long as it is held.
pub struct StorePermit {
    storing: Storing,
    authority: Authority,
    bytes: usize,
}

impl Storing {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Authority, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if too many wait.
    pub(super) fn admit(&self, authority: &Authority, bytes: usize) -> Option<StorePermit> {
        let mut waiting = self.waiting();
        let all: usize = waiting.values().sum();
        let own = waiting.get(authority).copied().unwrap_or_default() + bytes;
        if own > OF_ONE_BYTES || all + bytes > ALL_BYTES {
            return None;
        }
        waiting.insert(authority.clone(), own);
        Some(StorePermit { storing: self.clone(), authority: authority.clone(), bytes })
    }
}

impl Drop for StorePermit {
    fn drop(&mut self) {
        let mut waiting = self.storing.waiting();
        let left = waiting.get(&self.authority).map_or(0, |own| own.saturating_sub(self.bytes));
        if left == 0 {
            waiting.remove(&self.authority);
        } else {
            waiting.insert(self.authority.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t50_manifests_that_wait_take_64_mib_and_those_of_one_registry_half_of_it() {
        let storing = Storing::default();
        let [one, other, third] = ["one.test", "other.test", "third.test"].map(|name| name.parse().unwrap());
        let admit = |authority: &Authority| storing.admit(authority, 4 << 20);
        let mut held: Vec<_> = (0..8).map(|_nth| admit(&one).unwrap()).collect();
        assert!(admit(&one).is_none());
        held.extend((0..8).map(|_nth| admit(&other).unwrap()));
        assert!(admit(&third).is_none());
        held.pop();
        assert!(admit(&third).is_some());
        drop(held);
        assert!(storing.waiting().is_empty());
    }
}
