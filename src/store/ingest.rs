//! A partial file on its way to being a blob: reserve, prove, sync, link.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::{Authority, Digest, Hasher};

use super::claim::Claim;
use super::hashing::Hashing;
use super::space::{Reservation, Space};
use super::writer::Writer;
use super::{BlobFile, Store, layout, off_runtime};

/// One download into a partial file.
pub struct Ingest {
    digest: Digest,
    file: Arc<File>,
    partial: PathBuf,
    blob: PathBuf,
    space: Arc<Space>,
    reservation: Option<Reservation>,
    /// Not here while somebody else hashes.
    hashing: Option<Hashing>,
    claim: Arc<Claim>,
}

/// The blob is on disk under its digest, synced. The partial name goes when the index knows the blob.
#[derive(Debug)]
pub struct Committed {
    pub size_bytes: u64,
    pub file: BlobFile,
    partial: PathBuf,
    _claim: Arc<Claim>,
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
pub(super) struct Sidecar {
    pub(super) size_bytes: Option<u64>,
    pub(super) synced_bytes: u64,
}

impl Store {
    /// Starts from nothing; what an earlier fill left is removed, though those who read it keep it.
    pub async fn begin(&self, authority: &Authority, digest: Digest) -> io::Result<Ingest> {
        let partial = self.layout.partial(authority, digest);
        let claim = self.claims.take(&partial).await;
        self.space.take_over(&partial);
        let path = partial.clone();
        let file = off_runtime(move || create_anew(&path)).await?;
        Ok(self.ingest(digest, partial, claim, file))
    }

    /// Whether an interrupted fill has left something to go on with. Touches no disk.
    pub fn has_leftover(&self, authority: &Authority, digest: Digest) -> bool {
        self.space.has_leftover(&self.layout.partial(authority, digest))
    }

    /// Starts from what an interrupted fill left, if anything. Gives the number of its bytes, which have to be hashed
    /// again, and the blob's size as it was known then.
    pub async fn resume(&self, authority: &Authority, digest: Digest) -> io::Result<(Ingest, u64, Option<u64>)> {
        let partial = self.layout.partial(authority, digest);
        let claim = self.claims.take(&partial).await;
        self.space.take_over(&partial);
        let path = partial.clone();
        let (file, left, size_bytes) = off_runtime(move || match open_leftover(&path) {
            Some(leftover) => Ok(leftover),
            None => Ok((create_anew(&path)?, 0, None)),
        })
        .await?;
        Ok((self.ingest(digest, partial, claim, file), left, size_bytes))
    }

    fn ingest(&self, digest: Digest, partial: PathBuf, claim: Claim, file: File) -> Ingest {
        let file = Arc::new(file);
        Ingest {
            digest,
            hashing: Some(Hashing::new(Arc::clone(&file), Hasher::new(digest.algorithm()))),
            file,
            partial,
            blob: self.layout.blob(digest),
            space: Arc::clone(&self.space),
            reservation: None,
            claim: Arc::new(claim),
        }
    }
}

/// The file that an interrupted fill left, how much of it can be trusted to be there, and the blob's size.
fn open_leftover(partial: &Path) -> Option<(File, u64, Option<u64>)> {
    let sidecar = std::fs::read(layout::sidecar(partial)).ok()?;
    let sidecar: Sidecar = serde_json::from_slice(&sidecar).ok()?;
    let file = File::options().read(true).write(true).open(partial).ok()?;
    let metadata = file.metadata().ok()?;
    // A second name means that it is a stored blob already: those bytes are never written again.
    let is_partial = metadata.is_file() && metadata.nlink() == 1;
    let left = sidecar.synced_bytes.min(metadata.len());
    (is_partial && left > 0).then_some((file, left, sidecar.size_bytes))
}

fn create_anew(partial: &Path) -> io::Result<File> {
    if let Some(parent) = partial.parent() {
        layout::make_dir(parent)?;
    }
    layout::remove_if_there(&layout::sidecar(partial))?;
    layout::remove_if_there(partial)?;
    layout::create_file(partial)
}

impl Ingest {
    /// What readers follow.
    pub fn file(&self) -> BlobFile {
        BlobFile { file: Arc::clone(&self.file) }
    }

    /// For bytes that may come in any order.
    pub fn writer(&self) -> Writer {
        Writer::new(Arc::clone(&self.file), Arc::clone(&self.claim))
    }

    /// The hash, for whoever follows what is written. It has to come back before the proof.
    pub fn take_hashing(&mut self) -> io::Result<Hashing> {
        self.hashing.take().ok_or_else(not_here)
    }

    pub fn put_back(&mut self, hashing: Hashing) {
        self.hashing = Some(hashing);
    }

    /// Sets space aside, within the limits and on the disk, for a blob of `size_bytes`.
    pub async fn reserve(&mut self, size_bytes: u64) -> Result<(), CommitError> {
        self.reservation = None;
        let reservation = self.space.reserve(size_bytes).ok_or(CommitError::NoSpace(size_bytes))?;
        let file = Arc::clone(&self.file);
        off_runtime(move || match size_bytes {
            0 => Ok(()),
            // The file's length stays what was written: a resumed fill reads it.
            _ => match rustix::fs::fallocate(&*file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size_bytes) {
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
                Err(err) => Err(err.into()),
            },
        })
        .await?;
        self.reservation = Some(reservation);
        Ok(())
    }

    /// Writes and hashes chunks behind what is there.
    pub async fn append(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        let mut hashing = self.take_hashing()?;
        let mut hasher = hashing.take()?;
        let (file, from) = (Arc::clone(&self.file), hashing.done());
        let (hasher, at) = off_runtime(move || {
            let mut at = from;
            for chunk in chunks {
                file.write_all_at(&chunk, at)?;
                hasher.update(&chunk);
                at += chunk.len() as u64;
            }
            Ok((hasher, at))
        })
        .await?;
        hashing.took(hasher, at - from);
        self.hashing = Some(hashing);
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
        off_runtime(move || {
            file.sync_data()?;
            let text = serde_json::to_vec(&sidecar).map_err(io::Error::other)?;
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, text)?;
            std::fs::rename(temporary, path)
        })
    }

    /// Compares the hash with the digest. The proof that releases the tail; nothing is visible yet.
    pub fn prove(&self, size_bytes: Option<u64>) -> Result<(), CommitError> {
        let hashing = self.hashing.as_ref().ok_or_else(not_here)?;
        if let Some(want) = size_bytes.filter(|want| *want != hashing.done()) {
            return Err(CommitError::WrongSize { want, got: hashing.done() });
        }
        let got = hashing.digest()?;
        if got == self.digest { Ok(()) } else { Err(CommitError::Mismatch { got }) }
    }

    /// Proves, syncs, links into place, syncs the directory. Without success the partial file is removed.
    pub async fn commit(mut self, size_bytes: Option<u64>) -> Result<Committed, CommitError> {
        self.prove(size_bytes)?;
        let (file, partial, blob) = (Arc::clone(&self.file), self.partial.clone(), self.blob.clone());
        let size_bytes = self.hashing.as_ref().map_or(0, Hashing::done);
        let linked = off_runtime(move || {
            // Gives back what was set aside behind the end.
            file.set_len(size_bytes)?;
            file.sync_all()?;
            link_into_place(&partial, &blob)
        })
        .await;
        let replaced = match linked {
            Ok(replaced) => replaced,
            Err(err) => {
                // What cannot be linked is of no use to a later fill either.
                let _left_for_the_next_start = self.discard().await;
                return Err(err.into());
            }
        };
        if let Some(reservation) = self.reservation.take() {
            reservation.becomes_stored(size_bytes);
        }
        self.space.forget_stored(replaced);
        Ok(Committed { size_bytes, file: self.file(), partial: self.partial, _claim: self.claim })
    }

    /// Leaves the partial file for a later fill to go on with: `written` bytes from its beginning. What readers may have
    /// been given behind them, up to `end`, stays until they are done.
    pub async fn keep(self, size_bytes: Option<u64>, written: u64, end: u64) -> io::Result<()> {
        self.checkpoint(size_bytes, written).await?;
        // Gives back what was set aside behind the end: only what is written is counted from here.
        let (file, end) = (Arc::clone(&self.file), end.max(written));
        off_runtime(move || file.set_len(end)).await?;
        self.space.count_leftover(&self.partial, end);
        Ok(())
    }

    /// Leaves what an earlier fill left, `left_bytes` of it, as it is.
    pub fn leave(self, left_bytes: u64) {
        self.space.count_leftover(&self.partial, left_bytes);
    }

    /// Removes the partial file. Those who read it keep it until they are done.
    pub async fn discard(self) -> io::Result<()> {
        let partial = self.partial;
        off_runtime(move || {
            layout::remove_if_there(&layout::sidecar(&partial))?;
            layout::remove_if_there(&partial)?;
            // Of an authority that a client made up, nothing stays. One that is not empty is not removed.
            let _in_use = partial.parent().map(std::fs::remove_dir);
            Ok(())
        })
        .await
    }
}

/// Gives the blob its name; the size of another file that had it. Those bytes may have rotted, these were just hashed.
fn link_into_place(partial: &Path, blob: &Path) -> io::Result<u64> {
    let shard = blob.parent().ok_or_else(|| io::Error::other("a blob's path has a parent"))?;
    if !shard.exists() {
        layout::make_dir(shard)?;
        if let Some(parent) = shard.parent() {
            layout::sync_dir(parent)?;
        }
    }
    let replaced = match std::fs::hard_link(partial, blob) {
        Ok(()) => 0,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            let replaced = std::fs::metadata(blob).map_or(0, |metadata| metadata.len());
            // Renamed over in one step; a crash before it leaves a stray name that the next start removes.
            let second = partial.with_extension("link");
            layout::remove_if_there(&second)?;
            std::fs::hard_link(partial, &second)?;
            std::fs::rename(&second, blob)?;
            replaced
        }
        Err(err) => return Err(err),
    };
    layout::sync_dir(shard)?;
    Ok(replaced)
}

fn not_here() -> io::Error {
    io::Error::other("an earlier step on this file failed")
}

impl Committed {
    /// Removes the partial name. To be called when the index has the blob durably: until then the name tells a later
    /// start that there is a blob to record.
    pub async fn unlink_partial(self) -> io::Result<()> {
        off_runtime(move || {
            layout::remove_if_there(&layout::sidecar(&self.partial))?;
            layout::remove_if_there(&self.partial)
        })
        .await
    }
}

#[cfg(test)]
#[path = "ingest/tests.rs"]
mod tests;
