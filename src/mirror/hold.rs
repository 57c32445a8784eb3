//! Content that must stay while somebody works with it, as an export does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::Digest;

use super::Mirror;

#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Mutex<HashMap<Digest, usize>>>);

/// Keeps what it names from being evicted until it is dropped. Does not outlive the process.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    digests: Vec<Digest>,
}

impl Mirror {
    /// Keeps these blobs and manifests, stored now or later, from being evicted.
    pub fn hold(&self, digests: Vec<Digest>) -> Hold {
        self.eviction.holds.hold(digests)
    }
}

impl Holds {
    fn hold(&self, digests: Vec<Digest>) -> Hold {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &digests {
            *held.entry(*digest).or_default() += 1;
        }
        Hold { holds: self.clone(), digests }
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &self.digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(digest);
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
        let holds = Holds::default();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let (first, second) = (holds.hold(vec![digest]), holds.hold(vec![digest, digest]));
        drop(second);
        assert_eq!(holds.digests(), [digest]);
        drop(first);
        assert!(holds.digests().is_empty());
    }
}
