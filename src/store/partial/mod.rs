//! A partial file on its way to being a blob: reserve, prove, sync, link.

mod buffers;
mod commit;
mod hash;
mod name_lock;
mod open;
mod preallocate;
mod write_pipeline;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::oci::Digest;

pub(super) use buffers::{BUFFER_BYTES, Buffer};
pub use buffers::{Gathering, PIECE_BYTES};
pub use commit::{Committed, PendingRecord};
pub use hash::Hashing;
pub(super) use name_lock::NameLocks;
pub use write_pipeline::{Progress, WritePipeline};

use super::faults::{FaultKind, Faults, ReadErrorReporter};
use super::layout::Shards;
use super::open_files::{OpenFile, PartialName};
use super::space::{Reservation, Shortage, Space};
use super::{BlobFile, layout, off_runtime};
use commit::{NotLinked, link_into_place};
use name_lock::NameLock;
use preallocate::Allocation;
use write_pipeline::Writer;

/// One download into a partial file.
pub struct PartialFile {
    digest: Digest,
    file: Arc<File>,
    held: Arc<OpenFile>,
    partial: PathBuf,
    blob: PathBuf,
    space: Arc<Space>,
    reservation: Option<Reservation>,
    allocation: Allocation,
    /// A checkpoint that may still be under way.
    noting: Option<JoinHandle<()>>,
    /// Not here while somebody else hashes.
    hashing: Option<Hashing>,
    /// After a sync that failed, what is in memory says nothing about what is on the disk, and the next sync would not say
    /// so again.
    sync_failed: Arc<AtomicBool>,
    faults: Arc<Faults>,
    shards: Arc<Shards>,
    name_lock: Arc<NameLock>,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the bytes have the digest {got}")]
    Mismatch { got: Digest },
    #[error("{got} bytes came where {want} were announced")]
    WrongSize { want: u64, got: u64 },
    #[error("no space within the limits for {0} more bytes")]
    NoSpace(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How far a partial file can be trusted to be on disk.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::store) struct Sidecar {
    pub(super) size_bytes: Option<u64>,
    pub(super) synced_bytes: u64,
}

impl PartialFile {
    /// What readers follow.
    pub fn file(&self) -> BlobFile {
        BlobFile {
            file: Arc::clone(&self.file),
            reporter: Some(ReadErrorReporter { digest: self.digest, faults: Arc::clone(&self.faults) }),
            _open_file: Arc::clone(&self.held),
        }
    }

    /// For bytes that may come in any order. Its hash has to be put back before the proof.
    pub fn pipeline(&mut self, progress: Box<dyn Progress>) -> io::Result<WritePipeline> {
        let hashing = self.hashing.take().ok_or_else(not_here)?;
        Ok(WritePipeline::new(self.writer(), hashing, progress))
    }

    fn writer(&self) -> Writer {
        Writer::new(
            Arc::clone(&self.file),
            Arc::clone(&self.name_lock),
            self.allocation.refusal(),
            Arc::clone(&self.space),
        )
    }

    pub fn put_back(&mut self, hashing: Hashing) {
        self.hashing = Some(hashing);
    }

    /// Sets space aside, within the limits and on the disk, up to `size_bytes` in all, for what `upstream` brings. The disk
    /// may refuse some of it later: then a write fails.
    pub async fn reserve(&mut self, upstream: &str, size_bytes: u64) -> Result<(), CommitError> {
        let before = self.reserved_bytes();
        let is_counted = if let Some(reservation) = &mut self.reservation {
            reservation.grow(size_bytes)
        } else {
            self.reservation = self.space.reserve(&self.partial, upstream, size_bytes);
            self.reservation.is_some()
        };
        if !is_counted {
            return Err(CommitError::NoSpace(size_bytes));
        }
        if size_bytes > before {
            let range = before..size_bytes;
            let set_aside = self.allocation.set_aside(&self.file, range, self.space.promised()).await;
            if let Err(err) = set_aside {
                self.space.note_refusal(&err);
                self.shrink(before);
                return Err(err.into());
            }
        }
        Ok(())
    }

    /// Bytes set aside.
    pub fn reserved_bytes(&self) -> u64 {
        self.reservation.as_ref().map_or(0, Reservation::size_bytes)
    }

    /// Counts the size that `upstream` gives, of which nothing is set aside yet. What has to go before it fits, beside all
    /// that the other downloads of this upstream claim.
    pub fn claim(&mut self, upstream: &str, size_bytes: u64) -> Shortage {
        let space = &self.space;
        self.reservation.get_or_insert_with(|| space.empty_reservation(&self.partial, upstream)).claim(size_bytes)
    }

    /// Gives back what is set aside beyond `size_bytes`. The disk has it back when the download ends.
    pub fn shrink(&mut self, size_bytes: u64) {
        match &mut self.reservation {
            Some(reservation) if size_bytes > 0 => reservation.shrink(size_bytes),
            _ => self.reservation = None,
        }
    }

    /// Writes and hashes bytes behind what is there.
    pub async fn append(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut hashing = self.hashing.take().ok_or_else(not_here)?;
        let writer = self.writer();
        let hashing = off_runtime(move || {
            writer.write(hashing.done(), std::slice::from_ref(&bytes))?;
            hashing.take(&bytes);
            Ok(hashing)
        });
        self.hashing = Some(hashing.await?);
        Ok(())
    }

    /// Makes what is written durable, and notes that the first `written` bytes are, so that a later process can go on from
    /// there.
    pub fn checkpoint(
        &self,
        size_bytes: Option<u64>,
        written: u64,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let file = Arc::clone(&self.file);
        let path = layout::sidecar(&self.partial);
        let sidecar = Sidecar { size_bytes, synced_bytes: written };
        let sync_failed = Arc::clone(&self.sync_failed);
        off_runtime(move || {
            sync_once(&sync_failed, || file.sync_data())?;
            let text = serde_json::to_vec(&sidecar).map_err(io::Error::other)?;
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, text)?;
            std::fs::rename(temporary, path)
        })
    }

    /// A checkpoint that goes on in the background. Whatever ends this waits for it.
    pub fn notes(&mut self, checkpoint: JoinHandle<()>) {
        self.noting = Some(checkpoint);
    }

    pub fn is_noting(&self) -> bool {
        self.noting.as_ref().is_some_and(|noting| !noting.is_finished())
    }

    /// Nobody else works on the file, or its sidecar, when this returns.
    async fn settle(&mut self) {
        if let Some(noting) = self.noting.take() {
            // A checkpoint that failed costs bytes after a crash, nothing else.
            let _failed = noting.await;
        }
        self.allocation.end().await;
    }

    /// Compares the hash with the digest. The proof that releases the tail; nothing is visible yet.
    pub fn prove(&self, size_bytes: Option<u64>) -> Result<(), CommitError> {
        let hashing = self.hashing.as_ref().ok_or_else(not_here)?;
        if let Some(want) = size_bytes.filter(|want| *want != hashing.done()) {
            return Err(CommitError::WrongSize { want, got: hashing.done() });
        }
        let got = hashing.digest();
        if got == self.digest { Ok(()) } else { Err(CommitError::Mismatch { got }) }
    }

    /// Proves, syncs, links into place, syncs the directory. Without success the partial file is removed.
    pub async fn commit(mut self, size_bytes: Option<u64>) -> Result<Committed, CommitError> {
        self.prove(size_bytes)?;
        self.settle().await;
        let (file, partial, blob) = (Arc::clone(&self.file), self.partial.clone(), self.blob.clone());
        let size_bytes = self.hashing.as_ref().map_or(0, Hashing::done);
        let (sync_failed, shards) = (Arc::clone(&self.sync_failed), Arc::clone(&self.shards));
        let (faults, digest) = (Arc::clone(&self.faults), self.digest);
        let linked = off_runtime(move || {
            // Gives back what was set aside behind the end.
            file.set_len(size_bytes)?;
            sync_once(&sync_failed, || file.sync_all())?;
            // A read error reported from here on may concern the new file, so it is kept.
            let was_unreadable = faults.can_read(digest);
            let linked = link_into_place(&partial, &blob, &shards);
            linked.map_err(|NotLinked { err, has_name }| {
                if was_unreadable {
                    faults.cannot_read(digest);
                }
                if has_name {
                    faults.add(FaultKind::Unrecorded, partial.as_path());
                }
                err
            })
        })
        .await;
        if let Err(err) = linked {
            self.space.note_refusal(&err);
            // What cannot be linked is of no use to a later fill either.
            let _remembered = self.discard().await;
            return Err(err.into());
        }
        self.held.named();
        if let Some(reservation) = self.reservation.take() {
            reservation.becomes_stored(self.digest, size_bytes);
        }
        Ok(Committed {
            size_bytes,
            _partial_name: PartialName::new(self.held),
            partial: self.partial,
            faults: self.faults,
            _name_lock: self.name_lock,
        })
    }

    /// Leaves the partial file for a later fill to go on with: `written` bytes from its beginning. What readers may have
    /// been given behind them, up to `end`, stays until they are done. Without success it is removed.
    pub async fn keep(mut self, size_bytes: Option<u64>, written: u64, end: u64) -> io::Result<()> {
        self.settle().await;
        // Gives back what was set aside behind the end: only what is written is counted from here.
        let (file, end) = (Arc::clone(&self.file), end.max(written));
        let cut = off_runtime(move || file.set_len(end)).await;
        let kept = match cut {
            Ok(()) => self.checkpoint(size_bytes, written).await,
            Err(err) => Err(err),
        };
        if let Err(err) = kept {
            let _remembered = self.discard().await;
            return Err(err);
        }
        self.space.count_leftover(&self.partial, end);
        Ok(())
    }

    /// Leaves what an earlier fill left, `left_bytes` of it, as it is.
    pub fn leave(self, left_bytes: u64) {
        self.space.count_leftover(&self.partial, left_bytes);
    }

    /// Removes the partial file. Those who read it keep it until they are done. Where that fails it is counted, and removed
    /// when the disk works again.
    pub async fn discard(mut self) -> io::Result<()> {
        self.settle().await;
        let partial = self.partial.clone();
        let removed = off_runtime(move || {
            layout::remove_if_there(&layout::sidecar(&partial))?;
            layout::remove_if_there(&partial)?;
            // Of an authority that a client made up, nothing stays. One that is not empty is not removed.
            let _in_use = partial.parent().map(std::fs::remove_dir);
            Ok(())
        })
        .await;
        if removed.is_err() {
            self.faults.add(FaultKind::Orphan, self.partial.as_path());
            self.space.count_leftover(&self.partial, self.file.metadata().map_or(0, |metadata| metadata.len()));
        }
        removed
    }
}

/// Syncs, unless that failed before.
fn sync_once(failed: &AtomicBool, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if failed.load(Ordering::Acquire) {
        return Err(io::Error::other("an earlier sync of this file failed"));
    }
    sync().inspect_err(|_| failed.store(true, Ordering::Release))
}

fn not_here() -> io::Error {
    io::Error::other("an earlier step on this file failed")
}

#[cfg(test)]
mod tests;
