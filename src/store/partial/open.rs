//! A partial file, made anew or found as an interrupted fill left it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Authority, Digest, Hasher};

use super::super::faults::FaultKind;
use super::super::{Store, layout, off_runtime};
use super::hash::Hashing;
use super::name_lock::NameLock;
use super::preallocate::Allocation;
use super::{PartialFile, Sidecar};

impl Store {
    /// Starts from nothing; what an earlier fill left is removed, though those who read it keep it.
    pub async fn begin(&self, authority: &Authority, digest: Digest) -> io::Result<PartialFile> {
        let partial = self.layout.partial(authority, digest);
        let name_lock = self.name_locks.take(&partial).await;
        self.space.take_over(&partial);
        let path = partial.clone();
        let file = off_runtime(move || create_anew(&path))
            .await
            .inspect_err(|_| self.faults.add(FaultKind::Orphan, partial.as_path()))?;
        self.faults.remove(FaultKind::Orphan, partial.as_path());
        Ok(self.partial_file(digest, partial, name_lock, file))
    }

    /// Whether an interrupted fill has left something to go on with. Touches no disk.
    pub fn has_leftover(&self, authority: &Authority, digest: Digest) -> bool {
        self.space.has_leftover(&self.layout.partial(authority, digest))
    }

    /// Starts from what an interrupted fill left, if anything. Gives the number of its bytes, which have to be hashed
    /// again, and the blob's size as it was known then.
    pub async fn resume(&self, authority: &Authority, digest: Digest) -> io::Result<(PartialFile, u64, Option<u64>)> {
        let partial = self.layout.partial(authority, digest);
        let name_lock = self.name_locks.take(&partial).await;
        self.space.take_over(&partial);
        let path = partial.clone();
        let is_orphan = self.faults.remove(FaultKind::Orphan, partial.as_path());
        let opened = off_runtime(move || match open_leftover(&path) {
            Some(leftover) if !is_orphan => Ok(leftover),
            _ => Ok((create_anew(&path)?, 0, None)),
        })
        .await;
        // What was there may still be, and nobody counts it.
        let (file, left, size_bytes) = opened.inspect_err(|_| self.faults.add(FaultKind::Orphan, partial.as_path()))?;
        Ok((self.partial_file(digest, partial, name_lock, file), left, size_bytes))
    }

    fn partial_file(&self, digest: Digest, partial: PathBuf, name_lock: NameLock, file: File) -> PartialFile {
        let file = Arc::new(file);
        PartialFile {
            digest,
            hashing: Some(Hashing::new(Arc::clone(&file), Hasher::new(digest.algorithm()))),
            file,
            held: self.held.unnamed(digest),
            partial,
            blob: self.layout.blob(digest),
            space: Arc::clone(&self.space),
            reservation: None,
            allocation: Allocation::default(),
            noting: None,
            sync_failed: Arc::default(),
            faults: Arc::clone(&self.faults),
            shards: Arc::clone(&self.shards),
            name_lock: Arc::new(name_lock),
        }
    }
}

/// The file that an interrupted fill left, how much of it can be trusted to be there, and the blob's size.
fn open_leftover(partial: &Path) -> Option<(File, u64, Option<u64>)> {
    let sidecar = layout::read_file(&layout::sidecar(partial)).ok()?;
    let sidecar: Sidecar = serde_json::from_slice(&sidecar).ok()?;
    if !std::fs::symlink_metadata(partial).ok()?.is_file() {
        return None;
    }
    let file = File::options().read(true).write(true).open(partial).ok()?;
    let metadata = file.metadata().ok()?;
    // A second name means that it is a stored blob already: those bytes are never written again.
    let is_partial = metadata.is_file() && metadata.nlink() == 1;
    let left = sidecar.synced_bytes.min(metadata.len());
    (is_partial && left > 0).then_some((file, left, sidecar.size_bytes))
}

fn create_anew(partial: &Path) -> io::Result<File> {
    // Whoever discards the last other partial file of this authority removes the directory.
    const TRIES: u32 = 100;
    for _try in 1..TRIES {
        match create_once(partial) {
            // One that goes between the attempt to make it and the look at it is told as there.
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
            done => return done,
        }
    }
    create_once(partial)
}

fn create_once(partial: &Path) -> io::Result<File> {
    if let Some(parent) = partial.parent() {
        layout::make_dir(parent)?;
    }
    layout::remove_if_there(&layout::sidecar(partial))?;
    layout::remove_if_there(partial)?;
    layout::create_file(partial)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_directory_that_goes_while_a_file_is_made_in_it_is_no_fault() {
        let root = tempfile::tempdir().unwrap();
        let (directory, is_over) = (root.path().join("a.test"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _in_use = std::fs::remove_dir(&directory);
                }
            });
            let partial = directory.join("sha256-0");
            let made = (0..5000).try_for_each(|_nth| {
                create_anew(&partial)?;
                std::fs::remove_file(&partial)
            });
            is_over.store(true, Ordering::Relaxed);
            made.unwrap();
        });
    }
}
