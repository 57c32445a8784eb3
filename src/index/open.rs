//! Opening the index, or making it anew from what outlives it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::ReadableDatabase as _;

use super::database::{self, Database};
use super::eviction_order;
use super::facts::{BlobRow, Fact, PutBlob};
use super::log::replay::{self, Loader, Tally};
use super::log::segments::{LogDirectory, Position};
use super::log::{Log, snapshot};
use super::schema::{IN_BLOCKS, SUMS};
use super::view::View;
use super::writer::Writer;
use super::{CONTENT_BYTES, Index, IndexError};
use crate::clock::Timestamp;
use crate::health::Health;
use crate::oci::Digest;
use crate::shared_bytes::SharedBytes;

/// Blobs between two lines of the log.
const REPORT_EVERY: u64 = 100_000;

/// Whether the index was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    Existing,
    /// There was none, as at the very first start.
    New,
    /// There was one that could not be used; it was set aside.
    Damaged,
}

/// Finds every stored blob, with its size in bytes.
pub type Walk<'a> = &'a dyn Fn(&mut dyn FnMut(Digest, u64)) -> io::Result<()>;

impl Index {
    /// Opens the index below `root`, and replays what its log has and it has not. One that is missing or of no use is made
    /// anew from the log and the stored blobs; a file that was there is renamed, not deleted. One that cannot be reached, as
    /// on a full or failing disk, stays where it is. Blocking; for start-up, within a runtime.
    pub fn open(root: &Path, health: Health, now: Timestamp, walk: Walk<'_>) -> io::Result<(Self, Opened)> {
        let failed = |err: IndexError| io::Error::other(err.to_string());
        let directory = LogDirectory::create(root.join("facts"))?;
        directory.remove_superseded()?;
        let path = root.join("index.redb");
        let (followed, opened) = match existing(&path).map_err(failed)? {
            Ok(database) => (follow(database, &directory).map_err(failed)?, Opened::Damaged),
            Err(opened) => (None, opened),
        };
        let (database, log, opened) = if let Some((database, log)) = followed {
            (database, log, Opened::Existing)
        } else {
            if opened == Opened::Damaged {
                set_aside(&path)?;
            }
            let (database, log) = rebuild(root, directory, now, walk).map_err(failed)?;
            (database, log, opened)
        };
        let view = Arc::new(View::new(Database::new(path, database), log, health));
        let writer = Writer::start(Arc::clone(&view));
        Ok((Self { view, writer, contents: SharedBytes::within(CONTENT_BYTES) }, opened))
    }
}

fn existing(path: &Path) -> Result<Result<redb::Database, Opened>, IndexError> {
    match path.metadata().map(|metadata| metadata.len()) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Err(Opened::New)),
        Err(err) => Err(IndexError::Log(err)),
        // The engine would take an empty file for a new index.
        Ok(0) => Ok(Err(Opened::Damaged)),
        Ok(_) => {
            match database::open(path).and_then(|database| database::shrink(path, database)).and_then(counted_in_blocks)
            {
                Ok(database) => Ok(Ok(database)),
                Err(err) if err.is_damage() => {
                    tracing::warn!(error = %err, "the index is damaged, or of a form that this release does not read");
                    Ok(Err(Opened::Damaged))
                }
                Err(err) => Err(err),
            }
        }
    }
}

/// An index of an earlier release has its sums made anew once.
fn counted_in_blocks(database: redb::Database) -> Result<redb::Database, IndexError> {
    let is_counted = database.begin_read()?.open_table(SUMS)?.get(IN_BLOCKS)?.is_some();
    if !is_counted {
        let transaction = database::set_durability(database.begin_write()?, true)?;
        eviction_order::count_in_blocks(&transaction)?;
        transaction.commit()?;
    }
    Ok(database)
}

/// Brings an index up to its log; `None` if it is older than all that is left of the log.
fn follow(database: redb::Database, directory: &LogDirectory) -> Result<Option<(redb::Database, Log)>, IndexError> {
    let Some(saved) = replay::saved(&database.begin_read()?)? else {
        tracing::warn!("the index is of a form that this release does not read");
        return Ok(None);
    };
    let lacks_snapshot = replay::lacks_snapshot(&database.begin_read()?)?;
    let listing = directory.list().map_err(IndexError::Log)?;
    if listing.snapshot.is_some_and(|snapshot| saved.number < snapshot) {
        tracing::warn!("the index is older than the facts beside the blobs, as an old copy of it would be");
        return Ok(None);
    }
    if !listing.reaches(saved) {
        tracing::warn!("the log of facts has lost its end; it is made anew from the index");
        let log = log_from(&database, directory, listing.next())?;
        return Ok(Some((database, log)));
    }
    let mut tally = Tally::default();
    let mut loader = Loader::new(&database);
    let end = replay::replay(directory, Some(saved), &mut tally, &mut |fact| loader.put(fact))?;
    let mut log = Log::open(directory.clone(), end).map_err(IndexError::Log)?;
    if lacks_snapshot {
        log.lack_snapshot();
    }
    if end != saved {
        loader.end(end, lacks_snapshot)?;
        tally.report("what the log had and the index had not was taken in");
    }
    Ok(Some((database, log)))
}

/// A log with all that the index has. Until its snapshot is whole, each start and each checkpoint asks for it.
fn log_from(database: &redb::Database, directory: &LogDirectory, number: u64) -> Result<Log, IndexError> {
    let taken = snapshot::take(directory, number, &database.begin_read()?, &|| true);
    let mut log = Log::open(directory.clone(), Position { number, offset: 0 }).map_err(IndexError::Log)?;
    if let Err(err) = taken {
        tracing::warn!(error = %err, "no snapshot of the facts could be taken; it is tried again");
        log.lack_snapshot();
    } else {
        Loader::new(database).end(log.position(), false)?;
    }
    Ok(log)
}

/// Beside the old name until it is complete: a crash leaves no half of an index.
fn rebuild(
    root: &Path,
    directory: LogDirectory,
    now: Timestamp,
    walk: Walk<'_>,
) -> Result<(redb::Database, Log), IndexError> {
    let unfinished = root.join("index.redb.new");
    match std::fs::remove_file(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(IndexError::Log(err)),
        _ => {}
    }
    let database = counted_in_blocks(database::open(&unfinished)?)?;
    let mut loader = Loader::new(&database);
    let (mut blobs, mut put) = (0_u64, Ok(()));
    let walked = walk(&mut |digest, size_bytes| {
        // Their origin is not known, unless a fact says so: each authority has to prove them again.
        let row = BlobRow { size_bytes, origin: None, stored: now };
        if put.is_ok() {
            put = loader.put(Fact::PutBlob(PutBlob { digest, row }));
        }
        blobs += 1;
        if blobs.is_multiple_of(REPORT_EVERY) {
            tracing::info!(blobs, "rebuilding the index: looking for stored blobs");
        }
    });
    walked.map_err(IndexError::Log)?;
    put?;
    loader.walked()?;
    let mut tally = Tally::default();
    let end = replay::replay(&directory, None, &mut tally, &mut |fact| loader.put(fact))?;
    let io = IndexError::Log;
    let mut log = Log::open(directory, end).map_err(io)?;
    // The log gets the blobs that it did not know, and loses its damaged lines.
    let lacks_snapshot = blobs > 0 || tally.damaged > 0;
    if lacks_snapshot {
        log.lack_snapshot();
    }
    loader.end(end, lacks_snapshot)?;
    std::fs::rename(&unfinished, root.join("index.redb")).map_err(io)?;
    std::fs::File::open(root).and_then(|root| root.sync_all()).map_err(io)?;
    if blobs > 0 || tally.facts > 0 {
        tracing::warn!(blobs, "the index was made anew from the stored blobs and the facts beside them");
    }
    tally.report("the facts beside the blobs were taken in");
    Ok((database, log))
}

fn set_aside(path: &Path) -> io::Result<()> {
    let name = |nth: u32| match nth {
        0 => path.with_extension("redb.damaged"),
        nth => path.with_extension(format!("redb.damaged-{nth}")),
    };
    let free: PathBuf = (0..1000).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(1000));
    tracing::warn!(kept = %free.display(), "the index is set aside and made anew; remove the old one when it is of no use");
    std::fs::rename(path, free)
}
