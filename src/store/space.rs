//! The promises about size, kept by reserving before the first byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the operator promised others about this disk. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceLimits {
    /// Blobs and partial files together stay below.
    pub max_size: Option<u64>,
    /// The file system keeps so much free.
    pub min_free: u64,
}

#[derive(Debug)]
pub(super) struct Space {
    root: PathBuf,
    limits: SpaceLimits,
    /// Committed blobs.
    stored: AtomicU64,
    /// Running fills, and what interrupted ones left.
    partial: AtomicU64,
    /// Of `partial`: files that no fill is working on, and their lengths.
    leftovers: Mutex<HashMap<PathBuf, u64>>,
}

/// Bytes set aside for a partial file; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    space: Arc<Space>,
    size_bytes: u64,
}

impl Space {
    pub(super) fn new(root: PathBuf, limits: SpaceLimits) -> Self {
        Self { root, limits, stored: AtomicU64::new(0), partial: AtomicU64::new(0), leftovers: Mutex::default() }
    }

    /// `None` when a limit would be broken.
    pub(super) fn reserve(self: &Arc<Self>, size_bytes: u64) -> Option<Reservation> {
        self.partial.fetch_add(size_bytes, Ordering::Relaxed);
        let reservation = Reservation { space: Arc::clone(self), size_bytes };
        let fits = self.limits.max_size.is_none_or(|max| self.used() <= max) && self.leaves_free(size_bytes);
        // Dropping it gives the bytes back.
        fits.then_some(reservation)
    }

    /// Counts a partial file that waits for a fill to go on with it.
    pub(super) fn count_leftover(&self, partial: &Path, size_bytes: u64) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = leftovers.insert(partial.to_owned(), size_bytes).unwrap_or(0);
        self.partial.fetch_add(size_bytes, Ordering::Relaxed);
        self.partial.fetch_sub(before, Ordering::Relaxed);
    }

    /// A fill takes the file over; its reservation counts from here.
    pub(super) fn take_over(&self, partial: &Path) {
        let taken = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner).remove(partial);
        self.partial.fetch_sub(taken.unwrap_or(0), Ordering::Relaxed);
    }

    fn leaves_free(&self, size_bytes: u64) -> bool {
        if self.limits.min_free == 0 {
            return true;
        }
        // A disk that cannot be asked is left to fail by itself.
        let Ok(disk) = rustix::fs::statvfs(&self.root) else { return true };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        free.saturating_sub(size_bytes) >= self.limits.min_free
    }

    pub(super) fn set_stored(&self, size_bytes: u64) {
        self.stored.store(size_bytes, Ordering::Relaxed);
    }

    pub(super) fn add_stored(&self, size_bytes: u64) {
        self.stored.fetch_add(size_bytes, Ordering::Relaxed);
    }

    pub(super) fn forget_stored(&self, size_bytes: u64) {
        let _previous = self
            .stored
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stored| Some(stored.saturating_sub(size_bytes)));
    }

    pub(super) fn used(&self) -> u64 {
        self.stored.load(Ordering::Relaxed).saturating_add(self.partial.load(Ordering::Relaxed))
    }
}

impl Reservation {
    /// The partial file has become a stored blob of so many bytes.
    pub(super) fn becomes_stored(self, size_bytes: u64) {
        self.space.stored.fetch_add(size_bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.partial.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_and_stored_bytes_stay_below_the_limit_together() {
        let limits = SpaceLimits { max_size: Some(100), min_free: 0 };
        let space = Arc::new(Space::new(PathBuf::from("/"), limits));
        let first = space.reserve(60).unwrap();
        assert!(space.reserve(41).is_none());
        first.becomes_stored(60);
        assert_eq!(space.used(), 60);
        assert!(space.reserve(41).is_none() && space.reserve(40).is_some());
        space.forget_stored(60);
        assert_eq!(space.used(), 0);
    }

    #[test]
    fn min_free_keeps_the_disk_from_filling() {
        let limits = SpaceLimits { max_size: None, min_free: u64::MAX / 2 };
        assert!(Arc::new(Space::new(PathBuf::from("/"), limits)).reserve(1).is_none());
    }
}
