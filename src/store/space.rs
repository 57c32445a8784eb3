//! The promises about size, kept by reserving before the first byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What the operator promised others about this disk. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceLimits {
    /// Blobs and partial files together stay below.
    pub max_size: Option<u64>,
    /// The file system keeps so much free.
    pub min_free: u64,
    /// Above this much of `max_size`, some is evicted …
    pub high_mark: Option<u64>,
    /// … down to this much.
    pub low_mark: Option<u64>,
}

/// What index and journal need besides, to write down that something was stored. Bytes.
const WORKING_BYTES: u64 = 2 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Space {
    root: PathBuf,
    limits: SpaceLimits,
    counts: Mutex<Counts>,
    /// Something should go.
    pressure: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Committed blobs.
    stored: u64,
    /// Of `stored`, what the index does not have yet, by authority.
    unrecorded: HashMap<Box<str>, u64>,
    /// Running fills, and what interrupted ones left.
    partial: u64,
    partial_by: HashMap<Box<str>, u64>,
    /// Removed files that somebody still reads.
    lingering: u64,
    /// Of `partial`: files that no fill is working on.
    leftovers: HashMap<PathBuf, Leftover>,
    /// Changes of `stored`.
    changes: u64,
    /// What a full disk refused.
    wanted: Option<Wanted>,
}

/// The disk was full although the limits were kept: others use it, too.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// Free bytes that there should be.
    free: u64,
    /// Evicted for it at most, so that others cannot empty the store. Bytes.
    budget: u64,
}

#[derive(Debug, Clone, Copy)]
struct Leftover {
    size_bytes: u64,
    /// When it was first looked at. Milliseconds, by the clock of whoever looked.
    seen: Option<u64>,
}

/// Bytes set aside for a partial file; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    space: Arc<Space>,
    authority: Box<str>,
    size_bytes: u64,
}

/// A stored blob that the index does not have yet.
#[derive(Debug)]
pub(super) struct Unrecorded {
    space: Arc<Space>,
    authority: Box<str>,
    size_bytes: u64,
}

impl Space {
    pub(super) fn new(root: PathBuf, limits: SpaceLimits) -> Self {
        Self { root, limits, counts: Mutex::default(), pressure: Notify::new() }
    }

    pub(super) const fn limits(&self) -> SpaceLimits {
        self.limits
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Space for the file of that name; `None` when a limit would be broken.
    pub(super) fn reserve(self: &Arc<Self>, partial: &Path, size_bytes: u64) -> Option<Reservation> {
        let leaves_free = self.lack_of_free(size_bytes) == 0;
        let mut counts = self.counts();
        let used = counts.used().saturating_add(size_bytes);
        let fits = leaves_free && self.limits.max_size.is_none_or(|max| used <= max);
        let authority = authority_of(partial);
        if fits {
            counts.add_partial(&authority, size_bytes);
        }
        drop(counts);
        if !fits || self.limits.high_mark.is_some_and(|high| used > high) {
            self.pressure.notify_one();
        }
        fits.then(|| Reservation { space: Arc::clone(self), authority, size_bytes })
    }

    /// Bytes that have to go before so many more fit.
    pub(super) fn shortage(&self, size_bytes: u64) -> u64 {
        let used = self.counts().used().saturating_add(size_bytes);
        let over = self.limits.max_size.map_or(0, |max| used.saturating_sub(max));
        over.max(self.lack_of_free(size_bytes))
    }

    /// Bytes that should go in the background. Removed files that are still read go by themselves.
    pub(super) fn surplus(&self, begun: bool) -> u64 {
        let used = {
            let counts = self.counts();
            counts.used() - counts.lingering
        };
        let over = match (self.limits.high_mark, self.limits.low_mark) {
            (Some(high), Some(low)) if used > if begun { low } else { high } => used.saturating_sub(low),
            _ => 0,
        };
        // A little more than asked for, so that not every fill has to wait.
        let lack = self.lack_of_free(0);
        over.max(if lack > 0 { lack + self.limits.min_free / 20 } else { 0 }).max(self.refused())
    }

    /// The disk took no more, when so many bytes were to be written. If it is full indeed, and if that would make the room,
    /// so much is evicted in the background.
    pub(super) fn disk_refused(&self, size_bytes: u64) {
        let wanted = size_bytes.saturating_add(WORKING_BYTES);
        let Some(budget) = self.free().and_then(|free| wanted.checked_sub(free)).filter(|lack| *lack > 0) else {
            return;
        };
        let mut counts = self.counts();
        if budget > counts.stored {
            return;
        }
        let before = counts.wanted.map_or(0, |before| before.free);
        counts.wanted = Some(Wanted { free: wanted.max(before), budget });
        drop(counts);
        self.pressure.notify_one();
    }

    /// What a full disk refused, as far as it is still lacking. Bytes.
    fn refused(&self) -> u64 {
        let Some(wanted) = self.counts().wanted else { return 0 };
        let lack = self.free().map_or(0, |free| wanted.free.saturating_sub(free)).min(wanted.budget);
        if lack == 0 {
            self.counts().wanted = None;
        }
        lack
    }

    /// So much was evicted.
    pub(super) fn evicted(&self, size_bytes: u64) {
        if let Some(wanted) = &mut self.counts().wanted {
            wanted.budget = wanted.budget.saturating_sub(size_bytes);
        }
    }

    /// Whether so much could ever fit, were everything else gone.
    pub(super) fn could_fit(&self, size_bytes: u64) -> bool {
        self.limits.max_size.is_none_or(|max| size_bytes <= max)
    }

    pub(super) async fn pressed(&self) {
        self.pressure.notified().await;
    }

    /// Counts a partial file that waits for a fill to go on with it.
    pub(super) fn count_leftover(&self, partial: &Path, size_bytes: u64) {
        let mut counts = self.counts();
        let before = counts.leftovers.insert(partial.to_owned(), Leftover { size_bytes, seen: None });
        let authority = authority_of(partial);
        counts.sub_partial(&authority, before.map_or(0, |before| before.size_bytes));
        counts.add_partial(&authority, size_bytes);
    }

    pub(super) fn has_leftover(&self, partial: &Path) -> bool {
        self.counts().leftovers.contains_key(partial)
    }

    /// A fill takes the file over; its reservation counts from here.
    pub(super) fn take_over(&self, partial: &Path) {
        let mut counts = self.counts();
        let taken = counts.leftovers.remove(partial).map_or(0, |taken| taken.size_bytes);
        counts.sub_partial(&authority_of(partial), taken);
    }

    /// Files that no fill has worked on since `idle_since`, by the clock that says it is `now`. Milliseconds.
    pub(super) fn idle_leftovers(&self, now: u64, idle_since: u64) -> Vec<PathBuf> {
        let mut idle = Vec::new();
        for (partial, leftover) in &mut self.counts().leftovers {
            if *leftover.seen.get_or_insert(now) <= idle_since {
                idle.push(partial.clone());
            }
        }
        idle
    }

    /// Bytes short of what the disk must keep free once so many more are on it.
    fn lack_of_free(&self, size_bytes: u64) -> u64 {
        if self.limits.min_free == 0 {
            return 0;
        }
        self.free().map_or(0, |free| self.limits.min_free.saturating_add(size_bytes).saturating_sub(free))
    }

    /// Bytes free on the disk. One that cannot be asked is left to fail by itself.
    fn free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub(super) fn set_stored(&self, size_bytes: u64) {
        self.counts().set_stored(size_bytes);
    }

    pub(super) fn add_stored(&self, size_bytes: u64) {
        let mut counts = self.counts();
        let stored = counts.stored.saturating_add(size_bytes);
        counts.set_stored(stored);
    }

    pub(super) fn forget_stored(&self, size_bytes: u64) {
        let mut counts = self.counts();
        let stored = counts.stored.saturating_sub(size_bytes);
        counts.set_stored(stored);
    }

    /// Stands for this moment, if the index can have everything that is stored now.
    pub(super) fn moment(&self) -> Option<u64> {
        let counts = self.counts();
        counts.unrecorded.is_empty().then_some(counts.changes)
    }

    /// Believes the index's sum, if nothing has changed since that moment. Whether it did.
    pub(super) fn settle(&self, moment: u64, stored_bytes: u64) -> bool {
        let mut counts = self.counts();
        let is_so = counts.unrecorded.is_empty() && counts.changes == moment;
        if is_so {
            counts.stored = stored_bytes;
        }
        is_so
    }

    pub(super) fn linger(&self, size_bytes: u64) {
        self.counts().lingering += size_bytes;
    }

    pub(super) fn stop_lingering(&self, size_bytes: u64) {
        let mut counts = self.counts();
        counts.lingering = counts.lingering.saturating_sub(size_bytes);
    }

    pub(super) fn used(&self) -> u64 {
        self.counts().used()
    }

    /// Bytes of all partial files, as far as they are to grow.
    pub(super) fn promised(&self) -> u64 {
        self.counts().partial
    }

    /// What an authority has here that the index does not count: partial files, and blobs on their way into it.
    pub(super) fn uncounted(&self, authority: &str) -> u64 {
        let counts = self.counts();
        let of = |sums: &HashMap<Box<str>, u64>| sums.get(authority).copied().unwrap_or(0);
        of(&counts.partial_by) + of(&counts.unrecorded)
    }
}

impl Counts {
    const fn used(&self) -> u64 {
        self.stored.saturating_add(self.partial).saturating_add(self.lingering)
    }

    fn set_stored(&mut self, size_bytes: u64) {
        self.stored = size_bytes;
        self.changes += 1;
    }

    fn add_partial(&mut self, authority: &str, size_bytes: u64) {
        self.partial += size_bytes;
        *self.partial_by.entry(authority.into()).or_default() += size_bytes;
    }

    fn sub_partial(&mut self, authority: &str, size_bytes: u64) {
        self.partial = self.partial.saturating_sub(size_bytes);
        subtract(&mut self.partial_by, authority, size_bytes);
    }
}

/// Authorities come and go with wildcards: a sum of nothing is not kept.
fn subtract(sums: &mut HashMap<Box<str>, u64>, authority: &str, size_bytes: u64) {
    if let Some(sum) = sums.get_mut(authority) {
        *sum = sum.saturating_sub(size_bytes);
        if *sum == 0 {
            sums.remove(authority);
        }
    }
}

/// Partial files lie in a directory named after the authority.
fn authority_of(partial: &Path) -> Box<str> {
    partial.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into()).unwrap_or_default()
}

impl Reservation {
    /// The partial file has become a stored blob of so many bytes.
    pub(super) fn becomes_stored(self, size_bytes: u64) -> Unrecorded {
        let mut counts = self.space.counts();
        let stored = counts.stored.saturating_add(size_bytes);
        counts.set_stored(stored);
        *counts.unrecorded.entry(self.authority.clone()).or_default() += size_bytes;
        drop(counts);
        Unrecorded { space: Arc::clone(&self.space), authority: self.authority.clone(), size_bytes }
    }
}

impl Unrecorded {
    /// The index has it. What it never gets stays counted here.
    pub(super) fn recorded(self) {
        let mut counts = self.space.counts();
        counts.changes += 1;
        subtract(&mut counts.unrecorded, &self.authority, self.size_bytes);
        let used = counts.used();
        drop(counts);
        // While it was being filled, it could not go.
        if self.space.limits.high_mark.is_some_and(|high| used > high) {
            self.space.pressure.notify_one();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.counts().sub_partial(&self.authority, self.size_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(max_size: Option<u64>, min_free: u64) -> Arc<Space> {
        let limits = SpaceLimits { max_size, min_free, high_mark: max_size, low_mark: max_size.map(|max| max / 2) };
        Arc::new(Space::new(PathBuf::from("/"), limits))
    }

    fn partial() -> &'static Path {
        Path::new("/partial/a.test/sha256-0")
    }

    #[test]
    fn reservations_and_stored_bytes_stay_below_the_limit_together() {
        let space = space(Some(100), 0);
        let first = space.reserve(partial(), 60).unwrap();
        assert!(space.reserve(partial(), 41).is_none());
        first.becomes_stored(60).recorded();
        assert_eq!(space.used(), 60);
        assert!(space.reserve(partial(), 41).is_none() && space.reserve(partial(), 40).is_some());
        assert_eq!((space.shortage(41), space.shortage(40), space.uncounted("a.test")), (1, 0, 0));
        space.forget_stored(60);
        assert_eq!(space.used(), 0);
    }

    #[test]
    fn min_free_keeps_the_disk_from_filling() {
        assert!(space(None, u64::MAX / 2).reserve(partial(), 1).is_none());
    }

    #[test]
    fn removed_files_count_until_the_last_reader_has_gone() {
        let space = space(Some(100), 0);
        space.set_stored(50);
        space.forget_stored(50);
        space.linger(50);
        assert!(space.reserve(partial(), 60).is_none());
        space.stop_lingering(50);
        assert!(space.reserve(partial(), 60).is_some());
    }

    #[test]
    fn the_index_is_believed_only_where_it_can_know() {
        let space = space(Some(100), 0);
        let unrecorded = space.reserve(partial(), 10).unwrap().becomes_stored(10);
        assert!(space.moment().is_none());
        assert_eq!(space.uncounted("a.test"), 10);
        unrecorded.recorded();
        let moment = space.moment().unwrap();
        space.forget_stored(10);
        space.settle(moment, 10);
        assert_eq!(space.used(), 0);
        space.settle(space.moment().unwrap(), 7);
        assert_eq!(space.used(), 7);
    }

    #[test]
    fn a_leftover_is_idle_some_time_after_it_was_first_seen() {
        let space = space(None, 0);
        space.count_leftover(partial(), 10);
        assert!(space.idle_leftovers(1000, 900).is_empty());
        assert_eq!(space.idle_leftovers(2000, 1000), [partial()]);
        space.take_over(partial());
        assert!(space.idle_leftovers(2000, 1000).is_empty() && space.used() == 0);
    }
}
