//! What the disk refused, in one table: a fault stays until it is over, or until it is time to try again.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Digest, Store, layout, off_runtime};
use crate::clock::Timestamp;
use crate::oci::Authority;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A partial name that could not be removed.
    Orphan,
    /// The partial name of a blob whose commit failed and whose own name could not be removed. Nobody counts the blob.
    Unrecorded,
    /// A directory that names were removed from, and that could not be synced then.
    Unsynced,
    /// A stored blob that could not be read.
    Unreadable,
    /// An unreadable blob that was found to be wrong: it is not served even where nothing else is to be had.
    KnownBad,
    /// A blob that could not be stored from one registry: from there it is passed through for a while. Another registry may
    /// give it another size, or have another limit.
    Uncacheable,
    /// A blob whose file could not be removed, or whose record: for a while, others are evicted instead.
    Undeletable,
}

impl FaultKind {
    /// Faults remembered of a kind. Beyond them, a restart puts the rest in order.
    pub const fn max(self) -> usize {
        // Where more cannot be removed, it is the disk, and a pass ends.
        if matches!(self, Self::Undeletable) { 1000 } else { 10_000 }
    }

    /// Before its subject is tried again; `None` where that waits until the fault is over.
    const fn pause(self) -> Option<Duration> {
        match self {
            Self::Uncacheable => Some(Duration::from_secs(30)),
            Self::Undeletable => Some(Duration::from_mins(10)),
            Self::Orphan | Self::Unrecorded | Self::Unsynced | Self::Unreadable | Self::KnownBad => None,
        }
    }
}

/// What a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Digest(Digest),
    /// A blob as one registry gives it.
    Source(Authority, Digest),
    Path(PathBuf),
}

impl From<Digest> for Subject {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<(&Authority, Digest)> for Subject {
    fn from((authority, digest): (&Authority, Digest)) -> Self {
        Self::Source(authority.clone(), digest)
    }
}

impl From<&Path> for Subject {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// By kind, the subjects, and when each may be tried again.
type Table = BTreeMap<FaultKind, HashMap<Subject, Option<Timestamp>>>;

#[derive(Debug, Default)]
pub struct Faults {
    table: Mutex<Table>,
    /// The number of unreadable blobs: every hit asks, and there are none as a rule.
    unreadable: AtomicUsize,
}

impl Faults {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, kind: FaultKind, change: impl FnOnce(&mut HashMap<Subject, Option<Timestamp>>) -> T) -> T {
        let mut table = self.table();
        let faults = table.entry(kind).or_default();
        let changed = change(faults);
        if kind == FaultKind::Unreadable {
            self.unreadable.store(faults.len(), Ordering::Release);
        }
        changed
    }

    /// Remembers a fault that stays until it is over.
    pub(super) fn add(&self, kind: FaultKind, subject: impl Into<Subject>) {
        let _is_new = self.add_now(kind, subject, Timestamp::default());
    }

    /// Remembers a fault. `true` if it was not known: it is the time to log it.
    pub fn add_now(&self, kind: FaultKind, subject: impl Into<Subject>, now: Timestamp) -> bool {
        let (subject, retry_at) = (subject.into(), kind.pause().map(|pause| now.plus(pause)));
        self.change(kind, |faults| {
            let is_known = faults.contains_key(&subject);
            if !is_known && faults.len() >= kind.max() {
                // Some may be over without anybody's saying so.
                faults.retain(|_, retry_at| is_current(*retry_at, now));
            }
            let has_room = is_known || faults.len() < kind.max();
            has_room && faults.insert(subject, retry_at).is_none()
        })
    }

    /// The fault is over. `true` if there was one.
    pub fn remove(&self, kind: FaultKind, subject: impl Into<Subject>) -> bool {
        self.change(kind, |faults| faults.remove(&subject.into()).is_some())
    }

    /// All faults of this kind are over.
    pub fn clear(&self, kind: FaultKind) {
        self.change(kind, HashMap::clear);
    }

    /// Whether there is such a fault, and it is not yet time to try again.
    pub fn contains(&self, kind: FaultKind, subject: impl Into<Subject>, now: Timestamp) -> bool {
        self.change(kind, |faults| faults.get(&subject.into()).is_some_and(|retry_at| is_current(*retry_at, now)))
    }

    /// The blobs with such a fault that it is not yet time to try again.
    pub fn digests(&self, kind: FaultKind, now: Timestamp) -> Vec<Digest> {
        self.change(kind, |faults| {
            let current = faults.iter().filter(|(_, retry_at)| is_current(**retry_at, now));
            let digest = |subject: &Subject| if let Subject::Digest(digest) = subject { Some(*digest) } else { None };
            current.filter_map(|(subject, _)| digest(subject)).collect()
        })
    }

    fn paths(&self, kind: FaultKind) -> Vec<PathBuf> {
        let path = |subject: &Subject| if let Subject::Path(path) = subject { Some(path.clone()) } else { None };
        self.change(kind, |faults| faults.keys().filter_map(path).collect())
    }

    /// Makes the removal of names durable, now or when the disk works again.
    pub(super) fn sync_removal(&self, dir: &Path) -> io::Result<()> {
        layout::sync_dir(dir).inspect_err(|_| self.add(FaultKind::Unsynced, dir))
    }

    pub(super) fn cannot_read(&self, digest: Digest) {
        self.add(FaultKind::Unreadable, digest);
    }

    /// `true` if it could not be read before.
    pub(super) fn can_read(&self, digest: Digest) -> bool {
        self.remove(FaultKind::KnownBad, digest);
        self.remove(FaultKind::Unreadable, digest)
    }
}

fn is_current(retry_at: Option<Timestamp>, now: Timestamp) -> bool {
    retry_at.is_none_or(|retry_at| now < retry_at)
}

/// A stored file's way to tell that it cannot be read.
#[derive(Debug, Clone)]
pub(super) struct ReadErrorReporter {
    pub(super) digest: Digest,
    pub(super) faults: Arc<Faults>,
}

impl Store {
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether reading this stored blob failed, and it has not been stored again or found readable since.
    pub fn is_unreadable(&self, digest: Digest) -> bool {
        self.faults.unreadable.load(Ordering::Acquire) > 0 && self.has_fault(FaultKind::Unreadable, digest)
    }

    /// Its bytes are wrong, and stay where they are: not to be served from here on.
    pub fn mark_known_bad(&self, digest: Digest) {
        self.faults.add(FaultKind::KnownBad, digest);
        self.faults.cannot_read(digest);
    }

    /// Whether its bytes are known to be wrong.
    pub fn is_known_bad(&self, digest: Digest) -> bool {
        self.is_unreadable(digest) && self.has_fault(FaultKind::KnownBad, digest)
    }

    fn has_fault(&self, kind: FaultKind, digest: Digest) -> bool {
        self.faults.contains(kind, digest, Timestamp::default())
    }

    /// Every blob that could not be read.
    pub fn unreadable(&self) -> Vec<Digest> {
        self.faults.digests(FaultKind::Unreadable, Timestamp::default())
    }

    /// It was read to its end, or is gone.
    pub fn is_readable_again(&self, digest: Digest) {
        let _was_unreadable = self.faults.can_read(digest);
    }

    /// Writes, syncs and links a small file as a blob would be, and removes it.
    pub async fn probe(&self) -> io::Result<()> {
        let layout = self.layout.clone();
        off_runtime(move || {
            let [partial, blob] = layout.probes();
            layout::remove_if_there(&partial)?;
            layout::remove_if_there(&blob)?;
            let mut file = layout::create_file(&partial)?;
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            std::fs::hard_link(&partial, &blob)?;
            layout::sync_dir(&layout.blobs())?;
            layout::remove_if_there(&blob)?;
            layout::remove_if_there(&partial)
        })
        .await
    }

    /// Removes the partial files that could not be removed when they should have been.
    pub async fn tidy(&self) -> io::Result<()> {
        for partial in self.faults.paths(FaultKind::Orphan) {
            // Whoever has the name makes it anew, or removes it.
            let Some(_name_lock) = self.name_locks.try_take(&partial) else { continue };
            let path = partial.clone();
            off_runtime(move || {
                layout::remove_if_there(&layout::sidecar(&path))?;
                layout::remove_if_there(&path)
            })
            .await?;
            self.space.take_over(&partial);
            self.faults.remove(FaultKind::Orphan, partial.as_path());
        }
        for dir in self.faults.paths(FaultKind::Unsynced) {
            let path = dir.clone();
            off_runtime(move || layout::sync_dir(&path)).await?;
            self.faults.remove(FaultKind::Unsynced, dir.as_path());
        }
        Ok(())
    }

    /// Blobs whose commit failed and which have their names all the same, each with its partial name. Their bytes are
    /// right, and not counted.
    pub fn unrecorded(&self) -> Vec<(Digest, PathBuf)> {
        let named = |partial: PathBuf| Some((layout::digest_of_partial(partial.file_name()?.to_str()?)?, partial));
        self.faults.paths(FaultKind::Unrecorded).into_iter().filter_map(named).collect()
    }

    /// Removes one of them, which the index does not know, unless somebody is about to store it: then it is `false`.
    pub async fn remove_unrecorded(&self, digest: Digest, partial: &Path) -> io::Result<bool> {
        let Some(_name_lock) = self.name_locks.try_take(partial) else { return Ok(false) };
        let (blob, faults) = (self.layout.blob(digest), Arc::clone(&self.faults));
        off_runtime(move || {
            layout::remove_if_there(&blob)?;
            blob.parent().map_or(Ok(()), |shard| faults.sync_removal(shard))
        })
        .await?;
        self.faults.remove(FaultKind::Unrecorded, partial);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    const KIND: FaultKind = FaultKind::Undeletable;

    #[test]
    fn each_is_told_once_and_their_number_is_bounded() {
        let (faults, now) = (Faults::default(), Timestamp::default());
        let digest = |nth: usize| Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        for nth in 0..KIND.max() {
            assert!(faults.add_now(KIND, digest(nth), now) && !faults.add_now(KIND, digest(nth), now));
        }
        assert!(!faults.add_now(KIND, digest(KIND.max()), now));
        assert_eq!(faults.digests(KIND, now).len(), KIND.max());
        assert!(faults.remove(KIND, digest(0)));
        assert_eq!(faults.digests(KIND, now).len(), KIND.max() - 1);
        let later = now.plus(Duration::from_mins(10));
        assert!(faults.digests(KIND, later).is_empty(), "it is time to try them again");
        assert!(!faults.add_now(KIND, digest(1), later), "it is known already");
    }
}
