//! Reading stored bytes again, to see whether they still are what they were.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::opened::{Opened, open_stored};
use super::{Digest, FileId, READ_CHUNK, Store, StoredFile, layout, off_runtime};
use crate::clock::Timestamp;
use crate::oci::{Algorithm, Hasher};

/// What reading a stored file again has shown.
#[derive(Debug, Clone)]
pub enum Checked {
    /// So many bytes, and they are right.
    Right(u64),
    /// So many bytes, and they are not what was stored. This was the file.
    Wrong(u64, FileId),
    Missing,
    /// The disk does not give them.
    Unreadable,
    /// Too many files are open: nothing was found out.
    NotOpened,
}

/// One of the directories that hold blobs, by its place in [`SHARDS`].
pub type Shard = usize;

/// Directories of blobs.
pub const SHARDS: Shard = 256 * Algorithm::ALL.len();

fn directory(store: &Store, shard: Shard) -> (Algorithm, PathBuf) {
    let algorithm = Algorithm::ALL.into_iter().nth(shard / 256).unwrap_or(Algorithm::Sha256);
    let path = store.layout.blobs().join(algorithm.name()).join(format!("{:02x}", shard % 256));
    (algorithm, path)
}

/// How the digests of a directory's blobs begin, as in `sha256:0a`.
pub fn prefix(shard: Shard) -> String {
    let algorithm = Algorithm::ALL.into_iter().nth(shard / 256).unwrap_or(Algorithm::Sha256);
    format!("{}:{:02x}", algorithm.name(), shard % 256)
}

/// The blobs in one of the directories.
pub async fn in_shard(store: &Store, shard: Shard) -> io::Result<Vec<StoredFile>> {
    let (algorithm, path) = directory(store, shard);
    off_runtime(move || entries(algorithm, &path, None)).await
}

/// What was stored within `before` of the last sign of life of an earlier process: its last change to a directory of
/// blobs, or to the index. Directories that are older are not looked into. What lies ahead of `now`, because the clock
/// was set back, is no sign of life, and is looked at.
pub async fn stored_lately(store: &Store, before: Duration, now: Timestamp) -> io::Result<Vec<StoredFile>> {
    let shards: Vec<_> = (0..SHARDS).map(|shard| directory(store, shard)).collect();
    let index = store.layout.root().join("index.redb");
    let now = i64::try_from(now.as_millis() / 1000).unwrap_or(i64::MAX);
    off_runtime(move || {
        let changed = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.mtime());
        let times: Vec<_> = shards.iter().map(|(_, path)| changed(path)).collect();
        let past = times.iter().copied().chain([changed(&index)]).filter(|time| *time <= now);
        let last = past.max().unwrap_or(0);
        let since = last - i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
        let mut lately = Vec::new();
        for ((algorithm, path), _) in shards.iter().zip(times).filter(|(_, changed)| *changed >= since) {
            lately.extend(entries(*algorithm, path, Some(since))?);
        }
        Ok(lately)
    })
    .await
}

/// Begins to read a stored blob again; the result where it cannot be opened.
pub async fn begin(store: &Store, digest: Digest) -> Result<Scrub, Checked> {
    let path = store.layout.blob(digest);
    match off_runtime(move || open_stored(&path)).await {
        Ok(Opened::Other(file_id)) => Err(Checked::Wrong(0, file_id)),
        Ok(Opened::File(file, _size_bytes)) => {
            let work = Work {
                file: Arc::new(file),
                hasher: Hasher::new(digest.algorithm()),
                buffer: vec![0; READ_CHUNK],
                at: 0,
            };
            Ok(Scrub { digest, work: Some(work) })
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Err(Checked::Missing),
        Err(err) if is_short_of_files(&err) => Err(Checked::NotOpened),
        Err(_) => Err(Checked::Unreadable),
    }
}

/// A limit of the process or the system, which says nothing about the disk.
fn is_short_of_files(err: &io::Error) -> bool {
    matches!(Errno::from_io_error(err), Some(Errno::MFILE | Errno::NFILE))
}

/// One stored blob being read again. The kernel's memory of files stays as it was: what nobody has read lately does not
/// displace what somebody has.
pub struct Scrub {
    digest: Digest,
    work: Option<Work>,
}

struct Work {
    file: Arc<File>,
    hasher: Hasher,
    buffer: Vec<u8>,
    at: u64,
}

impl Scrub {
    /// Reads the next piece: how many bytes, or the result. After that there is nothing more.
    pub async fn step(&mut self) -> Result<u64, Checked> {
        let Some(mut work) = self.work.take() else { return Err(Checked::Missing) };
        let read = off_runtime(move || {
            let read = read_quietly(&work.file, &mut work.buffer, work.at)?;
            work.hasher.update(work.buffer.get(..read).unwrap_or_default());
            work.at += read as u64;
            Ok((read as u64, work))
        });
        match read.await {
            Ok((0, Work { file, hasher, at, .. })) => {
                let is_right = hasher.finish() == self.digest;
                let wrong = || FileId::open(&file).map_or(Checked::Unreadable, |file_id| Checked::Wrong(at, file_id));
                Err(if is_right { Checked::Right(at) } else { wrong() })
            }
            Ok((read, work)) => {
                self.work = Some(work);
                Ok(read)
            }
            Err(_) => Err(Checked::Unreadable),
        }
    }
}

/// Those whose names came there since, in seconds; one that is not there holds none.
fn entries(algorithm: Algorithm, shard: &Path, since: Option<i64>) -> io::Result<Vec<StoredFile>> {
    let listed = match std::fs::read_dir(shard) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry?;
        let digest = format!("{}:{}", algorithm.name(), entry.file_name().to_string_lossy()).parse();
        let Ok(digest) = digest else { continue };
        // Removed since it was listed.
        let Ok(metadata) = entry.metadata() else { continue };
        // Linking changes a file's status, and nothing does later.
        if since.is_none_or(|since| metadata.ctime() >= since) {
            found.push(StoredFile { digest, size_bytes: metadata.len() });
        }
    }
    Ok(found)
}

fn read_quietly(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut byte = [0];
    let probe = preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
    let was_resident = !matches!(probe, Err(Errno::AGAIN));
    let read = file.read_at(buffer, at)?;
    if !was_resident && let Some(length) = std::num::NonZeroU64::new(read as u64) {
        // A kernel that does not listen only remembers more than it should.
        let _advice = fadvise(file, at, Some(length), Advice::DontNeed);
    }
    Ok(read)
}

pub async fn read_cursor(store: &Store) -> Option<Vec<u8>> {
    let cursor = store.layout.scrub_cursor();
    off_runtime(move || layout::read_file(&cursor)).await.ok()
}

pub async fn write_cursor(store: &Store, bytes: Vec<u8>) -> io::Result<()> {
    let cursor = store.layout.scrub_cursor();
    off_runtime(move || {
        let temporary = cursor.with_extension("tmp");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, cursor)
    })
    .await
}
