//! How much of a download may be written: the space that is set aside for it.
//!
//! A size that upstream claims sets aside a first part only, or 64 MiB where there is plenty of room. After that, no more is
//! set aside ahead of what came than came, or than 64 MiB: a claim without bytes costs others little.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Download, Job, Stop};

/// Set aside for a claim alone, where room is short.
pub(in crate::fill) const FIRST: u64 = 1024 * 1024;
/// Most that is set aside ahead.
const MOST_AHEAD: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Room(Mutex<Sums>);

#[derive(Debug)]
struct Sums {
    /// Bytes that are written or about to be.
    taken: u64,
    /// Bytes that may be.
    set_aside: u64,
}

impl Room {
    /// For a file that has its first `left` bytes.
    pub(super) const fn new(left: u64) -> Self {
        Self(Mutex::new(Sums { taken: left, set_aside: 0 }))
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what [`Download::take_room`] took and nobody writes.
    pub(super) fn put_back(&self, bytes: u64) {
        self.sums().taken -= bytes;
    }
}

impl Download<'_> {
    /// Sets the first part aside of what is claimed. Refuses a size that will not fit.
    pub(super) async fn begin_room(&self, claimed: Option<u64>) -> Result<(), Stop> {
        let mut partial_file = self.partial_file.lock().await;
        if partial_file.reserved_bytes() > 0 {
            return Ok(());
        }
        let Job { evictor, source, scope, fill, .. } = self.job;
        let first = self.room.sums().taken.saturating_add(FIRST);
        let claimed = claimed.unwrap_or(first);
        let sizes = (claimed, first.min(claimed), first.saturating_add(MOST_AHEAD).min(claimed));
        evictor.begin(&mut partial_file, (&scope.authority, &source.facts), sizes, fill.is_asked()).await?;
        self.room.sums().set_aside = partial_file.reserved_bytes();
        Ok(())
    }

    /// Takes so many bytes of what is set aside, and sets aside more where that is not enough.
    pub(super) async fn take_room(&self, bytes: u64) -> Result<(), Stop> {
        {
            let mut sums = self.room.sums();
            sums.taken = sums.taken.saturating_add(bytes);
            if sums.taken <= sums.set_aside {
                return Ok(());
            }
        }
        let mut partial_file = self.partial_file.lock().await;
        let (taken, set_aside) = {
            let sums = self.room.sums();
            (sums.taken, sums.set_aside)
        };
        let size = self.segments().size().unwrap_or(u64::MAX);
        // Two may have taken the same bytes, of which one gives them back in a moment.
        if taken <= set_aside || set_aside >= size {
            return Ok(());
        }
        let Job { evictor, source, scope, fill, .. } = self.job;
        let next = taken.saturating_add(taken.clamp(FIRST, MOST_AHEAD)).min(size);
        evictor.reserve(&mut partial_file, (&scope.authority, &source.facts), next, fill.is_asked()).await?;
        self.room.sums().set_aside = next;
        Ok(())
    }

    /// Little has come for a while: what is set aside ahead is for others.
    pub(super) async fn give_room_back(&self) {
        let mut partial_file = self.partial_file.lock().await;
        let taken = {
            let mut sums = self.room.sums();
            sums.set_aside = sums.taken.min(sums.set_aside);
            sums.set_aside
        };
        partial_file.shrink(taken);
    }
}
