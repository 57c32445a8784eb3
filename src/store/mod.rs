//! Bytes by digest, on one disk.
//!
//! ```text
//! <root>/LOCK                          flock: one process per storage
//! <root>/VERSION                       layout version, now 1
//! <root>/blobs/<alg>/ab/<hex>          stored bytes, immutable, verified, synced
//! <root>/partial/<authority>/<alg>-<hex>        running or interrupted fills …
//! <root>/partial/<authority>/<alg>-<hex>.json   … and how far each is on disk
//! <root>/quarantine/<millis>-<alg>-<hex>        stored bytes that were found to be wrong, for a while
//! <root>/STOPPED                       the last process ended in good order
//! <root>/VERIFY                        where the background check is
//! <root>/STAGED                        blobs of imports that nothing names yet
//! <root>/jobs/<id>.json                jobs that go on after the process
//! ```
//!
//! A name under `blobs/` exists only for bytes that were hashed, compared and synced. Everything blocking runs off the
//! async runtime.

mod blob_file;
mod evict;
mod faults;
pub mod jobs;
mod layout;
mod lock;
mod open_files;
mod opened;
mod partial;
pub mod quarantine;
pub mod recovery;
pub mod scrub;
mod space;
pub mod staged;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use blob_file::{BlobFile, SEND_WINDOW};
pub use evict::Evicted;
pub use faults::{FaultKind, Faults, Subject};
pub use opened::FileStamp;
pub use partial::{
    CommitError, Committed, Gathering, Hashing, PIECE_BYTES, PartialFile, PendingRecord, Progress, WritePipeline,
};
pub use quarantine::{FileId, QuarantineOutcome};
pub use recovery::{Leftover, StoredFile};
pub use scrub::{Checked, Scrub, Shard};
pub use space::{Reservation, Shortage, SpaceLimits, disk_bytes};

use crate::oci::{Authority, Digest, Hasher};

use faults::ReadErrorReporter;
use layout::{Layout, Shards};
use open_files::OpenFiles;
use opened::{Opened, open_stored};
use partial::NameLocks;
use space::Space;

/// Bytes read from disk at a time.
pub const READ_CHUNK: usize = 256 * 1024;

pub struct Store {
    layout: Layout,
    space: Arc<Space>,
    name_locks: Arc<NameLocks>,
    faults: Arc<Faults>,
    shards: Arc<Shards>,
    held: Arc<OpenFiles>,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process (pid {pid}) uses {path}; stop it, or give this one its own `storage.path`")]
    InUse { path: PathBuf, pid: String },
    #[error(
        "{path} was written by a newer version (layout {found}, this one knows {known}); go on with that version, or go back by a backup: docs/operations.md"
    )]
    TooNew { path: PathBuf, found: String, known: u32 },
    #[error("{path} cannot be used: {err}{}", advice(err))]
    Io { path: PathBuf, err: io::Error },
}

fn advice(err: &io::Error) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says it by itself")]
    match err.kind() {
        io::ErrorKind::PermissionDenied => "; it has to belong to the user who runs this",
        io::ErrorKind::ReadOnlyFilesystem => "; the disk is mounted read-only",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make some room on the disk",
        _ => "",
    }
}

impl Store {
    /// Takes the lock and makes the directories. Blocking; for start-up.
    pub fn open(root: &Path, limits: SpaceLimits) -> Result<Self, OpenError> {
        let lock = lock::acquire(root)?;
        let layout = Layout::create(root).map_err(|err| OpenError::Io { path: root.to_owned(), err })?;
        let space = Arc::new(Space::new(root.to_owned(), limits));
        // What cannot be counted now is counted when the mirror looks again.
        let _later = quarantine::count(&layout.quarantine(), &space);
        let held = OpenFiles::new(Arc::clone(&space));
        Ok(Self {
            layout,
            space,
            name_locks: Arc::default(),
            faults: Arc::default(),
            shards: Arc::default(),
            held,
            _lock: lock,
        })
    }

    /// Makes the names of other files in the storage path durable. Blocking; for start-up.
    pub fn sync_root(&self) -> Result<(), OpenError> {
        let root = self.layout.root();
        layout::sync_dir(root).map_err(|err| OpenError::Io { path: root.to_owned(), err })
    }

    /// What has the blob's name; `None` if nothing does.
    pub async fn open_blob(&self, digest: Digest) -> io::Result<Option<StoredBlob>> {
        let path = self.layout.blob(digest);
        let reporter = Some(ReadErrorReporter { digest, faults: Arc::clone(&self.faults) });
        let files = Arc::clone(&self.held);
        off_runtime(move || {
            let held = files.opening(digest);
            match open_stored(&path) {
                Ok(Opened::File(file, size_bytes)) => {
                    let file = BlobFile { file: Arc::new(file), reporter, _open_file: held };
                    Ok(Some(StoredBlob::File(file, size_bytes)))
                }
                Ok(Opened::Other(file_id)) => Ok(Some(StoredBlob::NotAFile(file_id))),
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(err) => Err(err),
            }
        })
        .await
    }

    /// Reads a stored blob of at most `limit_bytes` whole, and compares it with its digest.
    pub async fn read_verified(&self, digest: Digest, limit_bytes: u64) -> io::Result<Verified> {
        let (file, size_bytes) = match self.open_blob(digest).await? {
            None => return Ok(Verified::Missing),
            Some(StoredBlob::NotAFile(file_id)) => return Ok(Verified::Wrong(file_id)),
            Some(StoredBlob::File(file, size_bytes)) => (file, size_bytes),
        };
        if size_bytes > limit_bytes {
            return Ok(Verified::TooLarge);
        }
        let length = usize::try_from(size_bytes).map_err(io::Error::other)?;
        let bytes = file.read(0, length).await?;
        let is_right = Digest::of(digest.algorithm(), &bytes) == digest;
        Ok(if is_right { Verified::Right(bytes) } else { Verified::Wrong(file.file_id()?) })
    }

    /// Which file the stored blob is; `None` if there is none.
    pub async fn stamp(&self, digest: Digest) -> io::Result<Option<FileStamp>> {
        let path = self.layout.blob(digest);
        off_runtime(move || FileStamp::of(&path)).await
    }

    /// Whether the stored bytes still have their digest. Reads all of them.
    pub async fn check(&self, digest: Digest) -> io::Result<Checked> {
        let (file, size_bytes) = match self.open_blob(digest).await? {
            None => return Ok(Checked::Missing),
            Some(StoredBlob::NotAFile(file_id)) => return Ok(Checked::Wrong(0, file_id)),
            Some(StoredBlob::File(file, size_bytes)) => (file, size_bytes),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut at = 0;
        while at < size_bytes {
            let length = usize::try_from(size_bytes - at).unwrap_or(READ_CHUNK).min(READ_CHUNK);
            let bytes = file.read(at, length).await?;
            hasher.update(&bytes);
            at += bytes.len() as u64;
        }
        let is_right = hasher.finish() == digest;
        Ok(if is_right { Checked::Right(size_bytes) } else { Checked::Wrong(size_bytes, file.file_id()?) })
    }

    /// Stores bytes that are in memory and have been compared with their digest. `None` if they are there already: many may
    /// bring the same at one time, and each writes only if nobody has.
    pub async fn put(
        &self,
        authority: &Authority,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Option<Committed>, CommitError> {
        let size_bytes = bytes.len() as u64;
        let mut partial_file = self.begin(authority, digest).await?;
        match self.read_verified(digest, size_bytes).await {
            Ok(Verified::Right(_)) => {
                partial_file.discard().await?;
                return Ok(None);
            }
            // The right ones are at hand.
            Ok(Verified::Wrong(_)) => {
                if let Err(err) = self.remove(digest).await {
                    let _remembered = partial_file.discard().await;
                    return Err(err.into());
                }
            }
            Ok(Verified::Missing | Verified::TooLarge) => {}
            Err(err) => {
                let _remembered = partial_file.discard().await;
                return Err(err.into());
            }
        }
        let written = match partial_file.reserve(authority.as_str(), size_bytes).await {
            Ok(()) => partial_file.append(bytes).await.map_err(CommitError::from),
            Err(err) => Err(err),
        };
        if let Err(err) = written {
            let _remembered = partial_file.discard().await;
            return Err(err);
        }
        partial_file.commit(Some(size_bytes)).await.map(Some)
    }

    pub async fn remove(&self, digest: Digest) -> io::Result<()> {
        let path = self.layout.blob(digest);
        let (space, held) = (Arc::clone(&self.space), Arc::clone(&self.held));
        off_runtime(move || {
            // What cannot be asked for its size could not be taken off the count.
            let removed = std::fs::metadata(&path).and_then(|metadata| {
                std::fs::remove_file(&path)?;
                Ok(metadata.len())
            });
            match removed {
                Ok(size_bytes) => {
                    held.removed(digest, size_bytes);
                    // It may have no record. One that it has goes when its file is missed.
                    space.count_as_recorded(digest);
                    Ok(())
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(err) => Err(err),
            }
        })
        .await
    }

    /// What the index and the facts beside it take on the disk, for the count of used bytes.
    pub fn count_index(&self, bytes_on_disk: u64) {
        self.space.count_index(bytes_on_disk);
    }

    /// Bytes of blobs, partial files, the quarantine and what counts of the index now, and of removed files that somebody
    /// still reads.
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    /// Bytes of files whose bytes are wrong.
    pub fn quarantined_bytes(&self) -> u64 {
        self.space.quarantined()
    }

    /// How records of stored blobs changed, for the count: see [`RecordCounter`].
    pub fn record_counter(&self) -> RecordCounter {
        RecordCounter(Arc::clone(&self.space))
    }

    /// From here on a blob counts as the index has it: neither its file nor its record is about to change.
    pub fn count_as_recorded(&self, digest: Digest) {
        self.space.count_as_recorded(digest);
    }

    /// Bytes that a registry takes: recorded blobs, partial files, and blobs on their way into the index.
    pub fn used_by(&self, authority: &Authority) -> u64 {
        self.space.used_by(authority.as_str())
    }

    /// Bytes of recorded blobs by the registry that can give them again; the empty name is for those that none can.
    pub fn stored_by(&self) -> Vec<(String, u64)> {
        self.space.stored_by()
    }

    /// What is set aside for a registry's downloads, and for its blobs on their way into the index. Bytes.
    pub fn promised_to(&self, authority: &Authority) -> u64 {
        self.space.promised_to(authority.as_str())
    }

    pub fn limits(&self) -> SpaceLimits {
        self.space.limits()
    }

    /// What is set aside for downloads that run or were interrupted. Bytes.
    pub fn promised_bytes(&self) -> u64 {
        self.space.promised()
    }

    /// What has to go before so many more bytes of a registry, which `upstream` brings, fit within the limits.
    pub fn shortage(&self, authority: &Authority, upstream: &str, size_bytes: u64) -> Shortage {
        self.space.shortage((authority.as_str(), upstream), size_bytes)
    }

    /// Bytes that have to go before so many more fit within the limits, whoever brings them.
    pub fn lack(&self, size_bytes: u64) -> u64 {
        self.space.lack(size_bytes)
    }

    /// Whether so many bytes can be set aside on a mere claim.
    pub fn has_plenty(&self, size_bytes: u64) -> bool {
        self.space.has_plenty(size_bytes)
    }

    /// Whether so many more bytes make nothing go, not even in the background.
    pub fn has_room_to_spare(&self, more: u64) -> bool {
        self.space.has_room_to_spare(more)
    }

    /// Refuses what the disk itself has no room for. Some of that is evicted in the background, for the next request.
    pub fn require_on_disk(&self, size_bytes: u64) -> io::Result<()> {
        if self.space.has_on_disk(size_bytes) {
            return Ok(());
        }
        self.space.disk_refused(size_bytes.min(self.space.share()));
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    /// What interrupted downloads left. Bytes.
    pub fn leftover_bytes(&self) -> u64 {
        self.space.leftover_bytes()
    }

    /// Whether so many bytes would fit into an empty store.
    pub fn could_fit(&self, size_bytes: u64) -> bool {
        self.space.could_fit(size_bytes)
    }

    /// Bytes that should go in the background: from above the high mark down to the low one, and once it has `begun`,
    /// from above the low one.
    pub fn surplus(&self, begun: bool) -> u64 {
        self.space.surplus(begun)
    }

    /// The disk took no more when so many bytes were to be written: if it is full, that much is evicted in the background.
    pub fn disk_refused(&self, size_bytes: u64) {
        self.space.disk_refused(size_bytes);
    }

    /// Resolves when something should go.
    pub async fn pressed(&self) {
        self.space.pressed().await;
    }
}

/// Takes the sums of the index into the count of used bytes.
#[derive(Debug, Clone)]
pub struct RecordCounter(Arc<Space>);

impl RecordCounter {
    /// The bytes that are recorded now, by registry, and whose records were written and removed for that.
    pub fn record(&self, by_registry: &[(String, u64)], put: &[Digest], removed: &[Digest]) {
        self.0.record(by_registry.iter().map(|(registry, bytes)| (registry.as_str(), *bytes)), put, removed);
    }
}

/// What has a stored blob's name.
#[derive(Debug)]
pub enum StoredBlob {
    /// Its file, and the size of that in bytes.
    File(BlobFile, u64),
    /// Something that is no file. It stays where it is: what becomes of it is the caller's.
    NotAFile(FileId),
}

/// What a small stored blob was found to be.
#[derive(Debug)]
pub enum Verified {
    Right(Bytes),
    /// They are not what was stored. They stay where they are: what becomes of them is the caller's.
    Wrong(FileId),
    Missing,
    /// Larger than the caller takes. It was not read.
    TooLarge,
}

/// Whether an error means that the disk is full, which is no reason to fail a pull.
pub fn is_no_space(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
