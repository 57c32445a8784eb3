//! Opening the index, or making it anew from what outlives it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::ReadableDatabase as _;

use super::database::{self, Database};
use super::ledger::Ledger;
use super::log::replay::{self, Loader, Tally};
use super::log::segments::{Log, LogDirectory, Position};
use super::writer::Writer;
use super::{BlobRow, Change, Index, IndexError};
use crate::clock::Timestamp;
use crate::health::Health;
use crate::oci::Digest;

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
    /// Opens the index below `root`, and takes in what its journal has and it has not. One that is missing or of no use is
    /// made anew from the journal and the stored blobs; a file that was there is renamed, not deleted. One that cannot be
    /// reached, as on a full or failing disk, stays where it is. Blocking; for start-up, within a runtime.
    pub fn open(root: &Path, health: Health, now: Timestamp, walk: Walk<'_>) -> io::Result<(Self, Opened)> {
        let failed = |err: IndexError| io::Error::other(err.to_string());
        let facts = LogDirectory::create(root.join("facts"))?;
        facts.remove_superseded()?;
        let path = root.join("index.redb");
        let (known, opened) = match existing(&path).map_err(failed)? {
            Ok(database) => {
                (follow(&database, &facts).map_err(failed)?.map(|known| (database, known)), Opened::Damaged)
            }
            Err(opened) => (None, opened),
        };
        let (database, Known { end, lacks_snapshot }, opened) = if let Some((database, known)) = known {
            (database, known, Opened::Existing)
        } else {
            if opened == Opened::Damaged {
                set_aside(&path)?;
            }
            let (database, known) = rebuild(root, &facts, now, walk).map_err(failed)?;
            (database, known, opened)
        };
        let journal = Log::open(facts.clone(), end)?;
        let ledger = Arc::new(Ledger::new(Database::new(path, database), facts, journal, lacks_snapshot, health));
        let writer = Writer::start(Arc::clone(&ledger));
        Ok((Self { ledger, writer }, opened))
    }
}

/// Where journal and index stand.
struct Known {
    /// Where the next line goes.
    end: Position,
    /// The journals do not hold all that the index has.
    lacks_snapshot: bool,
}

fn existing(path: &Path) -> Result<Result<redb::Database, Opened>, IndexError> {
    match path.metadata().map(|metadata| metadata.len()) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Err(Opened::New)),
        Err(err) => Err(IndexError::Log(err)),
        // The engine would take an empty file for a new index.
        Ok(0) => Ok(Err(Opened::Damaged)),
        Ok(_) => match database::open(path) {
            Ok(database) => Ok(Ok(database)),
            Err(err) if err.is_damage() => {
                tracing::warn!(%err, "the index is damaged, or of a form that this release does not read");
                Ok(Err(Opened::Damaged))
            }
            Err(err) => Err(err),
        },
    }
}

/// Brings an index up to what its journal says; `None` if it is older than all that is left of the journal.
fn follow(database: &redb::Database, facts: &LogDirectory) -> Result<Option<Known>, IndexError> {
    let from = database.begin_read()?;
    let listing = facts.list().map_err(IndexError::Log)?;
    let last = listing.journals.last().map(|(number, _)| *number).max(listing.snapshot).unwrap_or_default();
    let unknown = Known { end: Position { number: last + 1, offset: 0 }, lacks_snapshot: true };
    let Some(saved) = replay::saved(&from)? else { return Ok(Some(unknown)) };
    if listing.snapshot.is_some_and(|snapshot| saved.number < snapshot) {
        tracing::warn!("the index is older than the facts beside the blobs, as an old copy of it would be");
        return Ok(None);
    }
    if !replay::is_reachable(facts, saved).map_err(IndexError::Log)? {
        tracing::warn!("the journal of facts has lost its end; a snapshot is taken from the index");
        return Ok(Some(unknown));
    }
    let lacks_snapshot = replay::lacked_snapshot(&from)? || replay::has_drifted(&from)?;
    drop(from);
    let mut tally = Tally::default();
    let mut loader = Loader::new(database, false);
    let end = replay::replay(facts, Some(saved), &mut tally, &mut |change| loader.put(change))?;
    if end != saved {
        loader.end(end, lacks_snapshot)?;
        tally.report("what the journal had and the index had not was taken in");
    }
    Ok(Some(Known { end, lacks_snapshot }))
}

/// Beside the old name until it is complete: a crash leaves no half of an index.
fn rebuild(
    root: &Path,
    facts: &LogDirectory,
    now: Timestamp,
    walk: Walk<'_>,
) -> Result<(redb::Database, Known), IndexError> {
    let unfinished = root.join("index.redb.new");
    match std::fs::remove_file(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(IndexError::Log(err)),
        _ => {}
    }
    let database = database::open(&unfinished)?;
    let mut loader = Loader::new(&database, true);
    let (mut blobs, mut found) = (0_u64, Ok(()));
    let walked = walk(&mut |digest, size_bytes| {
        // Whose they were is not known, unless a fact says so: each authority has to prove them again.
        let row = BlobRow { size_bytes, origin: None, stored: now };
        if found.is_ok() {
            found = loader.put_found(Change::PutBlob { digest, row });
        }
        blobs += 1;
        if blobs.is_multiple_of(REPORT_EVERY) {
            tracing::info!(blobs, "rebuilding the index: looking for stored blobs");
        }
    });
    walked.map_err(IndexError::Log)?;
    found?;
    loader.walked()?;
    let mut tally = Tally::default();
    let end = replay::replay(facts, None, &mut tally, &mut |change| loader.put(change))?;
    // What was damaged or is not known would be damaged for ever.
    let lacks_snapshot = tally.damaged > 0 || blobs > 0;
    loader.end(end, lacks_snapshot)?;
    let io = IndexError::Log;
    std::fs::rename(&unfinished, root.join("index.redb")).map_err(io)?;
    std::fs::File::open(root).and_then(|root| root.sync_all()).map_err(io)?;
    if blobs > 0 || tally.facts > 0 {
        tracing::warn!(blobs, "the index was made anew from the stored blobs and the facts beside them");
    }
    tally.report("the facts beside the blobs were taken in");
    Ok((database, Known { end, lacks_snapshot }))
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
