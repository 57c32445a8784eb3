//! Removing what was chosen to go, and what nobody goes on with.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::Digest;

use super::{Store, layout, off_runtime};

/// What became of a blob's file that was to go.
#[derive(Debug)]
pub enum Evicted {
    Removed,
    /// There was none.
    Missing,
    /// It stays where it was.
    Undeletable(io::Error),
}

impl Store {
    /// Removes the files of these blobs, and syncs: what is gone then stays gone. A directory that cannot be synced now is
    /// synced when the disk works again.
    pub async fn evict(&self, digests: Vec<Digest>) -> io::Result<Vec<(Digest, Evicted)>> {
        let (layout, space, held) = (self.layout.clone(), Arc::clone(&self.space), Arc::clone(&self.held));
        let faults = Arc::clone(&self.faults);
        off_runtime(move || {
            let mut shards = HashSet::new();
            let mut evicted = Vec::with_capacity(digests.len());
            for digest in digests {
                let path = layout.blob(digest);
                // What cannot be asked for its size could not be taken off the count.
                let removed = std::fs::metadata(&path).and_then(|metadata| {
                    std::fs::remove_file(&path)?;
                    Ok(metadata.len())
                });
                let became = match removed {
                    Ok(size_bytes) => {
                        held.removed(digest, size_bytes);
                        space.remove_file(digest, size_bytes);
                        space.evicted(size_bytes);
                        shards.extend(path.parent().map(PathBuf::from));
                        Evicted::Removed
                    }
                    Err(err) if err.kind() == io::ErrorKind::NotFound => Evicted::Missing,
                    Err(err) => Evicted::Undeletable(err),
                };
                evicted.push((digest, became));
            }
            for shard in shards {
                if let Err(err) = faults.sync_removal(&shard) {
                    tracing::warn!(path = %shard.display(), error = %err, "what was evicted may be back after a power cut");
                }
            }
            Ok(evicted)
        })
        .await
    }

    /// The stored blobs that are open, each with how often.
    pub fn open_blobs(&self) -> Vec<(Digest, usize)> {
        self.held.all()
    }

    /// Waits until a committed file has lost its partial name, and a removal gives its space back. `false` at once if none
    /// has one.
    pub async fn partial_name_gone(&self) -> bool {
        self.held.partial_name_gone().await
    }

    /// Waits until a removed file that had its partial name still gives its space back. `false` at once if there is none.
    pub async fn removed_space_back(&self) -> bool {
        self.held.removed_space_back().await
    }

    /// Removes partial files that no fill has worked on since `idle_since`, by the clock that says it is `now`
    /// (milliseconds); gives their bytes.
    pub async fn drop_leftovers(&self, now: u64, idle_since: u64) -> u64 {
        self.remove_leftovers(self.space.idle_leftovers(now, idle_since)).await
    }

    /// Removes partial files that no fill is working on where they are too many: those with the fewest bytes.
    pub async fn drop_surplus_leftovers(&self) {
        self.remove_leftovers(self.space.surplus_leftovers()).await;
    }

    async fn remove_leftovers(&self, partials: Vec<PathBuf>) -> u64 {
        let mut freed_bytes = 0;
        for partial in partials {
            // A fill may be about to go on with it.
            let Some(name_lock) = self.name_locks.try_take(&partial) else { continue };
            if !self.space.has_leftover(&partial) {
                continue;
            }
            let path = partial.clone();
            match off_runtime(move || layout::remove_leftover(&path)).await {
                Ok(size_bytes) => {
                    self.space.take_over(&partial);
                    freed_bytes += size_bytes;
                }
                Err(err) => {
                    tracing::warn!(path = %partial.display(), error = %err, "an old partial file cannot be removed");
                }
            }
            drop(name_lock);
        }
        freed_bytes
    }

    /// Whether the blob's file is there. Blocking; for start-up.
    pub fn is_there(&self, digest: Digest) -> bool {
        self.layout.blob(digest).exists()
    }

    /// Whether somebody has the stored file open.
    pub fn is_read(&self, digest: Digest) -> bool {
        self.held.is_open(digest)
    }
}
