//! What the disk refused, to be put in request when it works again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Digest, Store, layout, off_runtime};

/// Names and digests remembered. Beyond them, a restart puts the rest in request.
const MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Partial names that could not be removed.
    orphans: Mutex<BTreeSet<PathBuf>>,
    /// Blobs whose commit failed and whose names could not be removed, each with its partial name. Nobody counts them.
    unrecorded: Mutex<HashMap<Digest, PathBuf>>,
    /// Directories that names were removed from, and that could not be synced then.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Stored blobs that could not be read.
    unreadable: Mutex<HashSet<Digest>>,
    /// Of those, what was found to be wrong: not even where nothing else is to be had.
    wrong: Mutex<HashSet<Digest>>,
    /// Their number: every hit asks, and there are none as a rule.
    unreadable_count: AtomicUsize,
}

impl Faults {
    fn orphans(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreadable(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn orphan(&self, partial: &Path) {
        let mut orphans = self.orphans();
        if orphans.len() < MAX {
            orphans.insert(partial.to_owned());
        }
    }

    /// Whether the name was one; a fill makes it anew.
    pub(super) fn take_orphan(&self, partial: &Path) -> bool {
        self.orphans().remove(partial)
    }

    fn unrecorded(&self) -> MutexGuard<'_, HashMap<Digest, PathBuf>> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_unrecorded(&self, digest: Digest, partial: &Path) {
        let mut unrecorded = self.unrecorded();
        if unrecorded.len() < MAX {
            unrecorded.insert(digest, partial.to_owned());
        }
    }

    /// Makes the removal of names durable, now or when the disk works again.
    pub(super) fn sync_removal(&self, dir: &Path) -> io::Result<()> {
        layout::sync_dir(dir).inspect_err(|_| {
            let mut unsynced = self.unsynced();
            if unsynced.len() < MAX {
                unsynced.insert(dir.to_owned());
            }
        })
    }

    pub(super) fn cannot_read(&self, digest: Digest) {
        let mut unreadable = self.unreadable();
        if unreadable.len() < MAX {
            unreadable.insert(digest);
        }
        self.unreadable_count.store(unreadable.len(), Ordering::Release);
    }

    pub(super) fn is_wrong(&self, digest: Digest) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        self.cannot_read(digest);
    }

    /// `true` if it was complained of.
    pub(super) fn can_read(&self, digest: Digest) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        let mut unreadable = self.unreadable();
        let was_there = unreadable.remove(&digest);
        self.unreadable_count.store(unreadable.len(), Ordering::Release);
        was_there
    }
}

/// A stored file's way to tell that it cannot be read.
#[derive(Debug, Clone)]
pub(super) struct ReadErrorReporter {
    pub(super) digest: Digest,
    pub(super) faults: Arc<Faults>,
}

impl Store {
    /// Whether reading this stored blob failed, and it has not been stored again or found readable since.
    pub fn is_unreadable(&self, digest: Digest) -> bool {
        self.faults.unreadable_count.load(Ordering::Acquire) > 0 && self.faults.unreadable().contains(&digest)
    }

    /// Its bytes are wrong, and stay where they are: not to be served from here on.
    pub fn mark_known_bad(&self, digest: Digest) {
        self.faults.is_wrong(digest);
    }

    /// Whether its bytes are known to be wrong.
    pub fn is_known_bad(&self, digest: Digest) -> bool {
        self.is_unreadable(digest) && self.faults.wrong.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    /// Every blob of which that is so.
    pub fn unreadable(&self) -> Vec<Digest> {
        self.faults.unreadable().iter().copied().collect()
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
        let orphans: Vec<PathBuf> = self.faults.orphans().iter().cloned().collect();
        for partial in orphans {
            // Whoever has the name makes it anew, or removes it.
            let Some(_name_lock) = self.name_locks.try_take(&partial) else { continue };
            let path = partial.clone();
            off_runtime(move || {
                layout::remove_if_there(&layout::sidecar(&path))?;
                layout::remove_if_there(&path)
            })
            .await?;
            self.space.take_over(&partial);
            self.faults.take_orphan(&partial);
        }
        let unsynced: Vec<PathBuf> = self.faults.unsynced().iter().cloned().collect();
        for dir in unsynced {
            let path = dir.clone();
            off_runtime(move || layout::sync_dir(&path)).await?;
            self.faults.unsynced().remove(&dir);
        }
        Ok(())
    }

    /// Blobs whose commit failed and which have their names all the same. Their bytes are right, and not counted.
    pub fn unrecorded(&self) -> Vec<Digest> {
        self.faults.unrecorded().keys().copied().collect()
    }

    /// Somebody recorded it since.
    pub fn is_recorded(&self, digest: Digest) {
        self.faults.unrecorded().remove(&digest);
    }

    /// Removes one of them, which the index does not know, unless somebody is about to store it: then it is `false`.
    pub async fn remove_unrecorded(&self, digest: Digest) -> io::Result<bool> {
        let Some(partial) = self.faults.unrecorded().get(&digest).cloned() else { return Ok(true) };
        let Some(_name_lock) = self.name_locks.try_take(&partial) else { return Ok(false) };
        let (blob, faults) = (self.layout.blob(digest), Arc::clone(&self.faults));
        off_runtime(move || {
            layout::remove_if_there(&blob)?;
            blob.parent().map_or(Ok(()), |shard| faults.sync_removal(shard))
        })
        .await?;
        self.faults.unrecorded().remove(&digest);
        Ok(true)
    }
}
