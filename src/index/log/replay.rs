//! Replays the log: at the start, into a new database, and after the database failed.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;

use redb::{ReadTransaction, WriteTransaction};

use super::framing::{self, Line, Mark};
use super::segments::{LogDirectory, Position};
use crate::index::facts::{Change, Fact};
use crate::index::schema::{JOURNAL_NUMBER, JOURNAL_OFFSET, LACKS_SNAPSHOT, SUMS};
use crate::index::{IndexError, database};

/// Facts in one transaction.
const BATCH: usize = 10_000;
/// Transactions until a durable one: redb keeps the pages of the others in memory.
const SYNC_EVERY: usize = 10;
/// Facts between two lines of the log.
const REPORT_EVERY: u64 = 500_000;

/// The outcome of reading, in facts.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::index) struct Tally {
    pub(in crate::index) facts: u64,
    /// Facts of kinds that this release does not know.
    pub(in crate::index) unknown: u64,
    pub(in crate::index) damaged: u64,
}

impl Tally {
    pub(in crate::index) fn report(self, what: &str) {
        let Self { facts, unknown, damaged } = self;
        if unknown > 0 || damaged > 0 {
            tracing::warn!(
                facts,
                unknown,
                damaged,
                "{what}; what is damaged is asked for again, what is unknown was written by a newer release"
            );
        } else if facts > 0 {
            tracing::info!(facts, "{what}");
        }
    }
}

/// Reads a file's facts, from an offset on. Returns where its last whole line ends.
pub(in crate::index) fn read(
    path: &Path,
    from: u64,
    tally: &mut Tally,
    each: &mut dyn FnMut(Fact) -> Result<(), IndexError>,
) -> Result<u64, IndexError> {
    let mut file = File::open(path).map_err(IndexError::Log)?;
    file.seek(SeekFrom::Start(from)).map_err(IndexError::Log)?;
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let (mut buffer, mut end) = (Vec::new(), from);
    while let Some(line) = framing::read(&mut lines, &mut buffer).map_err(IndexError::Log)? {
        end += buffer.len() as u64;
        match line {
            Line::Fact(fact) => {
                tally.facts += 1;
                each(*fact)?;
            }
            Line::Mark(Mark::RoadsteadFacts(version)) if version > framing::VERSION => {
                return Err(IndexError::Newer { path: path.to_owned(), version });
            }
            Line::Mark(_) => {}
            Line::Unknown => tally.unknown += 1,
            Line::Damaged => tally.damaged += 1,
        }
    }
    Ok(end)
}

/// Puts facts into a database that is not read yet, in large steps.
pub(in crate::index) struct Loader<'a> {
    database: &'a redb::Database,
    batch: Vec<Fact>,
    batches: usize,
    reported: u64,
    /// Blobs were found by walking, and the log comes behind them.
    is_rebuild: bool,
}

impl<'a> Loader<'a> {
    pub(in crate::index) fn new(database: &'a redb::Database) -> Self {
        Self { database, batch: Vec::with_capacity(BATCH), batches: 0, reported: 0, is_rebuild: false }
    }

    pub(in crate::index) fn put(&mut self, fact: Fact) -> Result<(), IndexError> {
        self.batch.push(fact);
        if self.batch.len() < BATCH {
            return Ok(());
        }
        self.batches += 1;
        self.reported += BATCH as u64;
        if self.is_rebuild && self.reported.is_multiple_of(REPORT_EVERY) {
            tracing::info!(facts = self.reported, "rebuilding the index");
        }
        self.write(self.batches.is_multiple_of(SYNC_EVERY), None)
    }

    /// Writes the rest, and how far the journals are taken in now. All is durable then.
    pub(in crate::index) fn end(mut self, position: Position, lacks_snapshot: bool) -> Result<(), IndexError> {
        self.write(true, Some((position, lacks_snapshot)))
    }

    fn write(&mut self, is_durable: bool, position: Option<(Position, bool)>) -> Result<(), IndexError> {
        let transaction = database::set_durability(self.database.begin_write()?, is_durable)?;
        for fact in self.batch.drain(..) {
            if !self.is_rebuild || fact.outlives_loss(&transaction)? {
                Change::from(fact).apply(&transaction)?;
            }
        }
        if let Some((position, lacks_snapshot)) = position {
            save(&transaction, position, lacks_snapshot)?;
        }
        Ok(transaction.commit()?)
    }

    /// All blobs on the disk were put. From here on facts add to what is known of them, and bring none back.
    pub(in crate::index) fn walked(&mut self) -> Result<(), IndexError> {
        let written = self.write(false, None);
        self.is_rebuild = true;
        written
    }
}

/// Reads all facts of the log, from this position on. Returns the position of the next line.
pub(in crate::index) fn replay(
    facts: &LogDirectory,
    from: Option<Position>,
    tally: &mut Tally,
    each: &mut dyn FnMut(Fact) -> Result<(), IndexError>,
) -> Result<Position, IndexError> {
    let listing = facts.list().map_err(IndexError::Log)?;
    let mut end = from.unwrap_or(Position { number: listing.snapshot.unwrap_or(1), offset: 0 });
    if let (None, Some(number)) = (from, listing.snapshot) {
        read(&facts.snapshot(number), 0, tally, each)?;
    }
    for (number, length) in listing.journals {
        if number < end.number {
            continue;
        }
        let start = if number == end.number { end.offset } else { 0 };
        let read_to = if start < length { read(&facts.journal(number), start, tally, each)? } else { start };
        // Behind a torn line nothing can be appended.
        end = if read_to == length {
            Position { number, offset: length }
        } else {
            Position { number: number + 1, offset: 0 }
        };
    }
    Ok(end)
}

/// How far the log was taken in at the last checkpoint; `None` of a database that has never had one.
pub(in crate::index) fn saved(from: &ReadTransaction) -> Result<Option<Position>, IndexError> {
    let sums = from.open_table(SUMS)?;
    let (number, offset) = (sums.get(JOURNAL_NUMBER)?, sums.get(JOURNAL_OFFSET)?);
    Ok(number.zip(offset).map(|(number, offset)| Position { number: number.value(), offset: offset.value() }))
}

/// Whether the log does not tell all that the index knows: a snapshot of it is still to be taken.
pub(in crate::index) fn lacks_snapshot(from: &ReadTransaction) -> Result<bool, IndexError> {
    Ok(from.open_table(SUMS)?.get(LACKS_SNAPSHOT)?.is_some_and(|lacks| lacks.value() > 0))
}

pub(in crate::index) fn save(
    to: &WriteTransaction,
    position: Position,
    lacks_snapshot: bool,
) -> Result<(), IndexError> {
    let mut sums = to.open_table(SUMS)?;
    sums.insert(JOURNAL_NUMBER, position.number)?;
    sums.insert(JOURNAL_OFFSET, position.offset)?;
    sums.insert(LACKS_SNAPSHOT, u64::from(lacks_snapshot))?;
    Ok(())
}
