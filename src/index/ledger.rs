//! The index and its journal, written together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::ReadTransaction;
use tokio::sync::Notify;

use super::database::Database;
use super::generation::Generations;
use super::log::replay::{self, Tally};
use super::log::segments::{Log, LogDirectory};
use super::log::{framing, snapshot};
use super::revocations::Revocations;
use super::{Change, IndexError};
use crate::health::Health;

/// Room that must be there before a failed disk is trusted again, besides what was kept back. Bytes.
const PROBE_BYTES: usize = 1024 * 1024;
/// What a change takes on disk, about. Bytes.
const CHANGE_BYTES: usize = 1024;
/// After a snapshot failed, before the next one.
const SNAPSHOT_PAUSE: Duration = Duration::from_mins(1);
/// Facts taken in from the journal in one transaction.
const BATCH: usize = 10_000;

/// Used by the writer only, which makes one call at a time.
pub(super) struct Ledger {
    pub(super) database: Database,
    pub(super) health: Health,
    pub(super) generations: Generations,
    pub(super) revocations: Revocations,
    /// How many times the database was opened anew after it failed, and lost what was not durable.
    pub(super) reopened: AtomicU64,
    /// It has failed, and what it lost is not all back yet.
    pub(super) is_behind: AtomicBool,
    /// The last of them is over.
    pub(super) healed: Notify,
    facts: LogDirectory,
    journal: Mutex<Log>,
    /// The journals do not hold all that the index has. Written down with every flush.
    lacks_snapshot: AtomicBool,
    /// When a snapshot that failed is taken again.
    snapshot_again: Mutex<Option<Instant>>,
    stopping: AtomicBool,
}

impl Ledger {
    pub(super) fn new(
        database: Database,
        facts: LogDirectory,
        journal: Log,
        lacks_snapshot: bool,
        health: Health,
    ) -> Self {
        Self {
            database,
            health,
            generations: Generations::default(),
            revocations: Revocations::default(),
            reopened: AtomicU64::new(0),
            is_behind: AtomicBool::new(false),
            healed: Notify::new(),
            facts,
            journal: Mutex::new(journal),
            lacks_snapshot: AtomicBool::new(lacks_snapshot),
            snapshot_again: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    fn journal(&self) -> MutexGuard<'_, Log> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, visible to readers from now on, or none.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write(false)?;
        let mut lines = Vec::new();
        for change in changes {
            if let Some(fact) = change.log_form(&transaction)? {
                framing::write(&*fact, &mut lines)?;
            }
            change.apply(&transaction)?;
        }
        self.journal().append(&lines).map_err(IndexError::Log)?;
        transaction.commit()?;
        self.bump(changes);
        Ok(())
    }

    /// What was read before these were visible is not believed any more.
    fn bump(&self, changes: &[Change]) {
        for change in changes {
            self.generations.bump(change);
        }
    }

    /// Makes durable what is visible: the journal first, so that it is never behind.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        let position = {
            let mut journal = self.journal();
            journal.sync().map_err(IndexError::Log)?;
            journal.position()
        };
        let transaction = self.database.begin_write(true)?;
        replay::save(&transaction, position, self.lacks_snapshot())?;
        Ok(transaction.commit()?)
    }

    /// Opens the database anew if it is closed, takes in what it lost, and writes what was kept back.
    pub(super) fn heal(&self, held: &[Change], is_closed: &mut bool) -> Result<(), IndexError> {
        if *is_closed {
            self.database.reopen()?;
            *is_closed = false;
        }
        // A full disk must not fail the database again, which would be closed to readers, too.
        self.facts.probe(PROBE_BYTES + held.len() * CHANGE_BYTES).map_err(IndexError::Log)?;
        self.journal().sync().map_err(IndexError::Log)?;
        let written = self.catch_up().and_then(|()| self.write(held)).and_then(|()| self.flush());
        *is_closed = written.as_ref().is_err_and(|err| !matches!(err, IndexError::Log(_)));
        written
    }

    /// What was visible and not durable went with the database that failed: the journal has it.
    fn catch_up(&self) -> Result<(), IndexError> {
        let saved = replay::saved(&self.database.begin_read()?)?;
        let mut batch = Vec::new();
        let apply = |batch: &mut Vec<Change>| {
            let transaction = self.database.begin_write(false)?;
            for change in &*batch {
                change.apply(&transaction)?;
            }
            transaction.commit()?;
            self.bump(batch);
            batch.clear();
            Ok::<_, IndexError>(())
        };
        replay::replay(&self.facts, Some(saved.unwrap_or_default()), &mut Tally::default(), &mut |change| {
            batch.push(change);
            if batch.len() < BATCH { Ok(()) } else { apply(&mut batch) }
        })?;
        apply(&mut batch)
    }

    /// Whether it is time for a snapshot.
    pub(super) fn is_long(&self) -> bool {
        let again = *self.snapshot_again();
        match again {
            Some(at) => Instant::now() >= at,
            None => self.lacks_snapshot() || self.journal().is_long(),
        }
    }

    pub(super) fn lacks_snapshot(&self) -> bool {
        self.lacks_snapshot.load(Ordering::Relaxed)
    }

    fn snapshot_again(&self) -> MutexGuard<'_, Option<Instant>> {
        self.snapshot_again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new journal, and shows all that the old ones hold.
    pub(super) fn rotate(&self) -> Result<(u64, ReadTransaction), IndexError> {
        // Durable before the old journals go: a database that lags behind could not catch up.
        self.flush()?;
        let number = self.journal().rotate();
        self.flush()?;
        Ok((number, self.database.begin_read()?))
    }

    /// Takes long, beside everything else.
    pub(super) fn take_snapshot(&self, number: u64, from: &ReadTransaction) {
        match snapshot::take(&self.facts, number, from, &|| !self.stopping.load(Ordering::Relaxed)) {
            Ok(bytes) => {
                self.journal().snapshot_taken(bytes);
                *self.snapshot_again() = None;
                // The next flush writes it down; until then a crash costs one more snapshot.
                self.lacks_snapshot.store(false, Ordering::Relaxed);
                tracing::debug!(bytes, "a snapshot of the facts was taken");
            }
            Err(IndexError::Closed) => {}
            Err(err) => {
                *self.snapshot_again() = Some(Instant::now() + SNAPSHOT_PAUSE);
                tracing::warn!(%err, "no snapshot of the facts could be taken; the journal grows until the next one");
            }
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase as _;

    use super::*;
    use crate::index::database;
    use crate::index::log::segments::Position;

    #[test]
    fn a_first_snapshot_that_was_cut_short_is_still_lacking_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("index.redb");
        let facts = LogDirectory::create(root.path().join("facts")).unwrap();
        let open = |lacks| {
            let journal = Log::open(facts.clone(), Position { number: 1, offset: 0 }).unwrap();
            let database = Database::new(path.clone(), database::open(&path).unwrap());
            Ledger::new(database, facts.clone(), journal, lacks, Health::default())
        };
        let lacked = || replay::lacked_snapshot(&database::open(&path).unwrap().begin_read().unwrap()).unwrap();
        let ledger = open(true);
        drop(ledger.rotate().unwrap());
        assert!(ledger.is_long());
        drop(ledger);
        assert!(lacked());
        let ledger = open(true);
        let (number, from) = ledger.rotate().unwrap();
        // A file that is in the way, as a failing disk would be.
        let unfinished = facts.snapshot(number).with_extension("tmp");
        std::fs::create_dir(&unfinished).unwrap();
        ledger.take_snapshot(number, &from);
        ledger.flush().unwrap();
        assert!(ledger.lacks_snapshot() && !ledger.is_long(), "it waits a while");
        std::fs::remove_dir(&unfinished).unwrap();
        ledger.take_snapshot(number, &from);
        drop(from);
        ledger.flush().unwrap();
        assert!(!ledger.is_long());
        drop(ledger);
        assert!(!lacked());
    }
}
