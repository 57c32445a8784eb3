//! Which blobs somebody has open: a removed file takes its space until the last one closes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::oci::Digest;

use super::space::Space;

const SHARDS: usize = 16;

#[derive(Debug)]
pub(super) struct OpenFiles {
    space: Arc<Space>,
    shards: [Mutex<HashMap<Digest, Weak<OpenFile>>>; SHARDS],
    /// Committed files that have their partial names still.
    partial_names: AtomicUsize,
    /// Those of them that are removed: their space comes back with the end of the partial name.
    removed_early: AtomicUsize,
    partial_name_gone: Notify,
}

/// One file that somebody has open, or will in a moment. Shared by all who opened it under one name.
#[derive(Debug)]
pub(super) struct OpenFile {
    files: Arc<OpenFiles>,
    digest: Digest,
    /// What it takes although it has no name any more. Bytes.
    deleted_open_bytes: AtomicU64,
    /// It has its partial name still, and is open for that.
    has_partial_name: AtomicBool,
    /// It is one of [`OpenFiles::removed_early`].
    is_removed_early: AtomicBool,
}

impl OpenFiles {
    pub(super) fn new(space: Arc<Space>) -> Arc<Self> {
        Arc::new(Self {
            space,
            shards: Default::default(),
            partial_names: AtomicUsize::new(0),
            removed_early: AtomicUsize::new(0),
            partial_name_gone: Notify::new(),
        })
    }

    fn shard(&self, digest: Digest) -> MutexGuard<'_, HashMap<Digest, Weak<OpenFile>>> {
        let nth = usize::from(digest.first_byte()) % SHARDS;
        let shard = self.shards.get(nth).expect("a remainder is smaller than its divisor");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_entry(self: &Arc<Self>, digest: Digest) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            files: Arc::clone(self),
            digest,
            deleted_open_bytes: AtomicU64::new(0),
            has_partial_name: AtomicBool::new(false),
            is_removed_early: AtomicBool::new(false),
        })
    }

    /// To be called before the file is opened, so that no removal in between goes unseen.
    pub(super) fn opening(self: &Arc<Self>, digest: Digest) -> Arc<OpenFile> {
        let mut shard = self.shard(digest);
        if let Some(held) = shard.get(&digest).and_then(Weak::upgrade) {
            return held;
        }
        let held = self.new_entry(digest);
        shard.insert(digest, Arc::downgrade(&held));
        held
    }

    /// A file that has no name yet.
    pub(super) fn unnamed(self: &Arc<Self>, digest: Digest) -> Arc<OpenFile> {
        self.new_entry(digest)
    }

    /// The file has lost its name. Those who open the name from here on open another file. `true` if somebody has it open.
    pub(super) fn removed(&self, digest: Digest, size_bytes: u64) -> bool {
        let held = self.shard(digest).remove(&digest).and_then(|held| held.upgrade());
        let Some(held) = held else { return false };
        self.space.add_deleted_open(size_bytes);
        held.deleted_open_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        if held.has_partial_name.load(Ordering::SeqCst) && !held.is_removed_early.swap(true, Ordering::SeqCst) {
            self.removed_early.fetch_add(1, Ordering::SeqCst);
            // The name may have gone in between, and saw nothing.
            if !held.has_partial_name.load(Ordering::SeqCst) && held.is_removed_early.swap(false, Ordering::SeqCst) {
                self.removed_early.fetch_sub(1, Ordering::SeqCst);
            }
        }
        true
    }

    /// The blobs that are open under their digest, each with how often; not for their partial name, which goes by itself.
    pub(super) fn all(&self) -> Vec<(Digest, usize)> {
        let of = |shard: &Mutex<HashMap<Digest, Weak<OpenFile>>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().filter_map(|(digest, open)| Some((*digest, open.upgrade()?))).collect::<Vec<_>>()
        };
        // Counted and dropped without the lock, which the drop of a last one takes.
        let open = self.shards.iter().flat_map(of).map(|(digest, file)| {
            let own = 1 + usize::from(file.has_partial_name.load(Ordering::SeqCst));
            (digest, Arc::strong_count(&file).saturating_sub(own))
        });
        open.filter(|(_, count)| *count > 0).collect()
    }

    /// Waits until a committed file has lost its partial name. `false` at once if none has one.
    pub(super) async fn partial_name_gone(&self) -> bool {
        self.gone_of(&self.partial_names).await
    }

    /// Waits until a removed file has lost its partial name. `false` at once if none has one.
    pub(super) async fn removed_space_back(&self) -> bool {
        self.gone_of(&self.removed_early).await
    }

    async fn gone_of(&self, count: &AtomicUsize) -> bool {
        let mut gone = std::pin::pin!(self.partial_name_gone.notified());
        gone.as_mut().enable();
        let has_some = count.load(Ordering::SeqCst) > 0;
        if has_some {
            gone.await;
        }
        has_some
    }

    pub(super) fn is_open(&self, digest: Digest) -> bool {
        self.shard(digest).get(&digest).is_some_and(|held| held.strong_count() > 0)
    }
}

/// Keeps a committed file open for its partial name: until that goes, a removal gives no space back.
#[derive(Debug)]
pub(super) struct PartialName {
    file: Option<Arc<OpenFile>>,
    files: Arc<OpenFiles>,
}

impl PartialName {
    pub(super) fn new(file: Arc<OpenFile>) -> Self {
        file.has_partial_name.store(true, Ordering::SeqCst);
        file.files.partial_names.fetch_add(1, Ordering::SeqCst);
        Self { files: Arc::clone(&file.files), file: Some(file) }
    }
}

impl Drop for PartialName {
    fn drop(&mut self) {
        let Self { file, files } = self;
        if let Some(file) = file.take() {
            file.has_partial_name.store(false, Ordering::SeqCst);
            let was_removed = file.is_removed_early.swap(false, Ordering::SeqCst);
            // Its space is back then, if nobody else has it open.
            drop(file);
            files.removed_early.fetch_sub(usize::from(was_removed), Ordering::SeqCst);
        }
        files.partial_names.fetch_sub(1, Ordering::SeqCst);
        files.partial_name_gone.notify_waiters();
    }
}

impl OpenFile {
    /// The file has got its name.
    pub(super) fn named(self: &Arc<Self>) {
        self.files.shard(self.digest).insert(self.digest, Arc::downgrade(self));
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.files.space.forget_deleted_open(*self.deleted_open_bytes.get_mut());
        let mut shard = self.files.shard(self.digest);
        if shard.get(&self.digest).is_some_and(|held| held.strong_count() == 0) {
            shard.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::SpaceLimits;
    use super::*;
    use crate::file_blocks::BLOCK;
    use crate::oci::Algorithm;

    #[test]
    fn a_removed_file_counts_until_the_last_one_closes_it_and_its_successor_is_another() {
        let space = Arc::new(Space::new(PathBuf::from("/"), SpaceLimits::default()));
        let files = OpenFiles::new(Arc::clone(&space));
        let digest = Digest::of(Algorithm::Sha256, b"");
        let (first, second) = (files.opening(digest), files.opening(digest));
        assert!(files.is_open(digest) && files.removed(digest, 10) && !files.removed(digest, 10));
        let successor = files.opening(digest);
        drop(first);
        assert_eq!(space.used(), BLOCK);
        drop(second);
        assert_eq!(space.used(), 0);
        assert!(files.is_open(digest));
        drop(successor);
        assert!(!files.is_open(digest) && files.shard(digest).is_empty());
    }
}
