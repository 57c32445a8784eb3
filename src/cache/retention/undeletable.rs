//! Blobs whose files could not be removed, or of which the index could not be told that they went: others go instead of
//! them, and they are tried again later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::oci::Digest;

/// Blobs remembered. Where more cannot be removed, it is the disk, and a pass ends.
const MAX: usize = 1000;
/// Before one is tried again.
const PAUSE: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Undeletables(Mutex<HashMap<Digest, Instant>>);

impl Undeletables {
    fn failed(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its file could not be removed, or its row. `true` if that was not known: it is the time to log it.
    pub(super) fn insert(&self, digest: Digest) -> bool {
        let mut failed = self.failed();
        if failed.len() >= MAX && !failed.contains_key(&digest) {
            // Some may have gone another way since.
            failed.retain(|_, at| is_recent(*at));
        }
        let has_room = failed.len() < MAX || failed.contains_key(&digest);
        has_room && failed.insert(digest, Instant::now()).is_none()
    }

    /// It has gone.
    pub(super) fn remove(&self, digest: Digest) {
        self.failed().remove(&digest);
    }

    /// Those that are not to be tried now.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.failed().iter().filter(|(_, at)| is_recent(**at)).map(|(digest, _)| *digest).collect()
    }

    /// Whether another one would be remembered.
    pub(super) fn has_room(&self) -> bool {
        self.digests().len() < MAX
    }
}

fn is_recent(at: Instant) -> bool {
    at.elapsed() < PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn each_is_told_once_and_their_number_is_bounded() {
        let undeletable = Undeletables::default();
        let digest = |nth: usize| Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        for nth in 0..MAX {
            assert!(undeletable.has_room() && undeletable.insert(digest(nth)) && !undeletable.insert(digest(nth)));
        }
        assert!(!undeletable.has_room() && !undeletable.insert(digest(MAX)));
        assert_eq!(undeletable.digests().len(), MAX);
        undeletable.remove(digest(0));
        assert!(undeletable.has_room() && undeletable.digests().len() == MAX - 1);
    }
}
