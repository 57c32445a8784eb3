//! Where stored files go whose bytes are wrong: out of everybody's reach, and kept a while for who looks into it. They count
//! as used, and go before anything else when room is needed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::space::Space;
use super::{BlobFile, Digest, Store, layout, off_runtime};
use crate::clock::Timestamp;
use crate::file_blocks::in_blocks;

/// Files kept. The oldest go first.
const MAX_FILES: usize = 100;
/// Bytes kept. A larger file is removed at once.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
const MAX_AGE: Duration = Duration::from_hours(30 * 24);

/// A stored file that somebody has looked at. Its name may have been given to another one since.
#[derive(Debug, Clone)]
pub struct FileId {
    device: u64,
    inode: u64,
    size_bytes: u64,
    /// For as long as it is open, no other file gets its number.
    _open: Option<Arc<File>>,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata, open: Option<Arc<File>>) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), size_bytes: metadata.len(), _open: open }
    }

    pub(super) fn open(file: &Arc<File>) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?, Some(Arc::clone(file))))
    }

    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is(&self, metadata: &Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

impl BlobFile {
    /// Which file this is, for [`move_away`].
    pub fn file_id(&self) -> io::Result<FileId> {
        FileId::open(&self.file)
    }
}

/// What became of a file that was to be taken out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuarantineOutcome {
    /// It is in quarantine, and a miss from here on. Its row is the caller's to remove.
    Away,
    /// As [`QuarantineOutcome::Away`], but it could not be moved, and is removed.
    Removed,
    /// There was none.
    Missing,
    /// Its name has another file by now, which was left alone.
    Another,
}

/// The file that a digest's name stands for now, unopened; `None` if there is none.
pub async fn look_at(store: &Store, digest: Digest) -> io::Result<Option<FileId>> {
    let path = store.layout.blob(digest);
    off_runtime(move || Ok(metadata_if_there(&path)?.map(|metadata| FileId::of(&metadata, None)))).await
}

/// Takes this stored file out of reach.
pub async fn move_away(
    store: &Store,
    digest: Digest,
    file_id: FileId,
    now: Timestamp,
) -> io::Result<QuarantineOutcome> {
    let (blob, quarantine) = (store.layout.blob(digest), store.layout.quarantine());
    let (space, held, faults) = (Arc::clone(&store.space), Arc::clone(&store.held), Arc::clone(&store.faults));
    let taken = off_runtime(move || {
        let size_bytes = match metadata_if_there(&blob)? {
            None => return Ok(QuarantineOutcome::Missing),
            Some(other) if !file_id.is(&other) => return Ok(QuarantineOutcome::Another),
            Some(metadata) => metadata.len(),
        };
        let name = format!("{:013}-{}-{}", now.as_millis(), digest.algorithm().name(), digest.hex());
        let away = quarantine.join(name);
        let moved = layout::make_dir(&quarantine).and_then(|()| std::fs::rename(&blob, &away));
        let taken = if moved.is_ok() {
            if let Some(other) = metadata_if_there(&away)?.filter(|other| !file_id.is(other)) {
                put_back(&away, &blob, &space, digest, other.len())?;
                return Ok(QuarantineOutcome::Another);
            }
            held.removed(digest, 0);
            space.move_to_quarantine(digest, size_bytes);
            QuarantineOutcome::Away
        } else {
            // Not to be read is what matters.
            std::fs::remove_file(&blob)?;
            held.removed(digest, size_bytes);
            space.remove_file(digest, size_bytes);
            QuarantineOutcome::Removed
        };
        if let Some(shard) = blob.parent()
            && let Err(err) = faults.sync_removal(shard)
        {
            tracing::warn!(%digest, error = %err, "wrong bytes that were moved away may be back after a power cut");
        }
        // What cannot be thinned out now is thinned out at the next one.
        let _later = thin_out(&quarantine, now, &space);
        Ok(taken)
    })
    .await?;
    if taken != QuarantineOutcome::Another {
        let _was_unreadable = store.faults.can_read(digest);
    }
    Ok(taken)
}

/// Removes the oldest files of the quarantine until so many bytes are free; how many there were.
pub async fn free(store: &Store, bytes: u64) -> u64 {
    let (quarantine, space) = (store.layout.quarantine(), Arc::clone(&store.space));
    let freed = off_runtime(move || {
        let (mut freed, mut undeletable) = (0, None);
        for (path, size_bytes) in files(&quarantine)? {
            if freed >= bytes {
                break;
            }
            match remove(&path, size_bytes, &space) {
                Ok(true) => freed += size_bytes,
                Ok(false) => {}
                // Others may go.
                Err(err) => undeletable = undeletable.or(Some((path, err))),
            }
        }
        if let Some((path, err)) = undeletable {
            tracing::warn!(path = %path.display(), error = %err, "a file in quarantine cannot be removed; others go instead");
        }
        Ok(freed)
    });
    freed.await.unwrap_or_else(|err| {
        tracing::warn!(error = %err, "files in quarantine cannot be listed");
        0
    })
}

/// Removes what is too old, and counts what is there: somebody may have taken files away.
pub async fn recount(store: &Store, now: Timestamp) -> io::Result<()> {
    let (quarantine, space) = (store.layout.quarantine(), Arc::clone(&store.space));
    off_runtime(move || {
        let thinned = thin_out(&quarantine, now, &space);
        count(&quarantine, &space)?;
        thinned
    })
    .await
}

/// Digests whose files are in quarantine, and the sizes of these. Blocking; for start-up.
pub fn list(store: &Store) -> io::Result<Vec<(Digest, u64)>> {
    let named = |(path, size_bytes): (PathBuf, u64)| {
        let (_, name) = path.file_name()?.to_str()?.split_once('-')?;
        Some((layout::digest_of_partial(name)?, size_bytes))
    };
    Ok(files(&store.layout.quarantine())?.into_iter().filter_map(named).collect())
}

/// What was moved is not what was meant: it was stored between the look and the move.
fn put_back(away: &Path, blob: &Path, space: &Space, digest: Digest, size_bytes: u64) -> io::Result<()> {
    match std::fs::hard_link(away, blob) {
        Ok(()) => {}
        // Stored once more.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        Err(err) => {
            // It stays where it is, and is a miss.
            space.move_to_quarantine(digest, size_bytes);
            return Err(err);
        }
    }
    layout::remove_if_there(away)?;
    blob.parent().map_or(Ok(()), layout::sync_dir)
}

fn metadata_if_there(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Files and their sizes, the oldest first: names begin with the time.
fn files(quarantine: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let listed = match std::fs::read_dir(quarantine) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut files = Vec::new();
    for entry in listed {
        let entry = entry?;
        if let Some(metadata) = metadata_if_there(&entry.path())?.filter(Metadata::is_file) {
            files.push((entry.path(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether it was this call that removed it.
fn remove(path: &Path, size_bytes: u64, space: &Space) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            space.forget_quarantined(size_bytes);
            Ok(true)
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Counts what is there. Blocking.
pub(super) fn count(quarantine: &Path, space: &Space) -> io::Result<()> {
    let moment = space.quarantine_moment();
    let bytes = files(quarantine)?.iter().map(|(_, size_bytes)| in_blocks(*size_bytes)).sum();
    space.settle_quarantine(moment, bytes);
    Ok(())
}

/// Removes what is too much, or too old. Of what cannot be removed the first error is told at the end.
fn thin_out(quarantine: &Path, now: Timestamp, space: &Space) -> io::Result<()> {
    let kept = files(quarantine)?;
    let mut bytes: u64 = kept.iter().map(|(_, size_bytes)| size_bytes).sum();
    let (mut left, mut thinned) = (kept.len(), Ok(()));
    for (path, size_bytes) in kept {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let since = name.split_once('-').and_then(|(millis, _)| millis.parse().ok()).map(Timestamp::from_millis);
        let is_old = since.is_none_or(|since| now.since(since) > MAX_AGE);
        if !is_old && left <= MAX_FILES && bytes <= MAX_BYTES {
            break;
        }
        // Of what stays, another one takes the place.
        match remove(&path, size_bytes, space) {
            Ok(_) => {
                left -= 1;
                bytes -= size_bytes;
            }
            Err(err) => thinned = thinned.and(Err(err)),
        }
    }
    thinned
}

#[cfg(test)]
mod tests;
