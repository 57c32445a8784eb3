//! Leases: content that stays while somebody works with it, as a fill or an export does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::Digest;

/// Which digests are leased, and how often.
#[derive(Debug, Clone, Default)]
pub struct Leases(Arc<Mutex<HashMap<Digest, usize>>>);

/// Keeps what it names from being evicted until it is dropped. Does not outlive the process.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    digests: Vec<Digest>,
}

impl Leases {
    /// Keeps these blobs and manifests, stored now or later, from being evicted.
    pub fn lease(&self, digests: Vec<Digest>) -> Lease {
        let mut leased = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &digests {
            *leased.entry(*digest).or_default() += 1;
        }
        Lease { leases: self.clone(), digests }
    }

    /// How many leases of this digest there are: each fill of it has one.
    pub(in crate::cache) fn count(&self, digest: Digest) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied().unwrap_or(0)
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leased = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &self.digests {
            if let Some(count) = leased.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    leased.remove(digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn what_two_hold_stays_until_both_let_go() {
        let leases = Leases::default();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let (first, second) = (leases.lease(vec![digest]), leases.lease(vec![digest, digest]));
        drop(second);
        assert_eq!(leases.digests(), [digest]);
        drop(first);
        assert!(leases.digests().is_empty());
    }
}
