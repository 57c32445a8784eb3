//! The database as a view of the log: a change is appended to the log, and then shown.
//!
//! Commits of the database are not durable but for a checkpoint now and then, which remembers how far the log was taken in.
//! After a crash the start replays the log from there.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use redb::ReadTransaction;
use tokio::sync::Notify;

use super::database::Database;
use super::generation::Generations;
use super::log::replay::{self, Tally};
use super::log::{Log, framing, snapshot};
use super::revocations::Revocations;
use super::schema::SUMS;
use super::sums::rows::Rows;
use super::sums::stored::{self, OnStored, StoredBytes};
use super::{Change, IndexError};
use crate::health::Health;

/// Room that must be there before a failed disk is trusted again, besides the room for kept changes. Bytes.
const PROBE_BYTES: usize = 1024 * 1024;
/// Room that a change takes on disk, about. Bytes.
const CHANGE_BYTES: usize = 1024;
/// Facts replayed in one transaction.
const BATCH: usize = 10_000;
/// A checkpoint is due when so much was written since the last one. Bytes of the log.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// The same in changes. Each leaves a few pages that the checkpoint writes while other changes wait, and takes about 20 µs
/// to replay at the start: with a million blobs these are 150 ms, and 100 ms.
const CHECKPOINT_CHANGES: usize = 5000;

/// The outcome of a write.
#[derive(Debug)]
pub(super) enum Written {
    Visible,
    /// The log has them, synced. Readers see them when the database, which failed, is open again.
    Logged(IndexError),
}

/// The writer makes one call at a time.
pub(super) struct View {
    pub(super) database: Database,
    pub(super) health: Health,
    pub(super) generations: Generations,
    pub(super) revocations: Revocations,
    /// How many times the database was opened anew after it failed, without what the log does not keep.
    pub(super) reopened: AtomicU64,
    /// It has failed, and does not hold all that the log holds yet.
    pub(super) is_behind: AtomicBool,
    /// Notified when it holds all again.
    pub(super) healed: Notify,
    pub(super) on_stored: OnceLock<OnStored>,
    pub(super) rows: Rows,
    log: Mutex<Log>,
    /// Bytes of the log and changes since the last checkpoint.
    unchecked: Mutex<(u64, usize)>,
    stopping: AtomicBool,
}

impl View {
    pub(super) fn new(database: Database, log: Log, health: Health) -> Self {
        Self {
            database,
            health,
            generations: Generations::default(),
            revocations: Revocations::default(),
            reopened: AtomicU64::new(0),
            is_behind: AtomicBool::new(false),
            healed: Notify::new(),
            on_stored: OnceLock::new(),
            rows: Rows::default(),
            log: Mutex::new(log),
            unchecked: Mutex::new((0, 0)),
            stopping: AtomicBool::new(false),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unchecked(&self) -> MutexGuard<'_, (u64, usize)> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all changes visible, or none. Durable ones are synced in the log before they are visible, and with them all
    /// that was written before. If the sync fails, the log keeps none of them.
    pub(super) fn write(&self, changes: &[Change], is_durable: bool) -> Result<Written, IndexError> {
        if changes.is_empty() && !is_durable {
            return Ok(Written::Visible);
        }
        let transaction = self.database.begin_write(false)?;
        let mut lines = Vec::new();
        for change in changes {
            if let Some(fact) = change.log_form(&transaction)? {
                // What is told in fewer words makes no new row.
                if matches!(fact, Cow::Borrowed(_)) && !self.rows.admit(change) {
                    continue;
                }
                framing::write(&*fact, &mut lines)?;
            }
            change.apply(&transaction)?;
        }
        let stored = StoredBytes::after(changes, &transaction)?;
        let (mut log, logged) = (self.log(), lines.len() as u64);
        if is_durable { log.append_durably(lines) } else { log.append(lines) }.map_err(IndexError::Log)?;
        drop(log);
        // The log has the lines by now, however the commit ends.
        let committed = catch_unwind(AssertUnwindSafe(|| transaction.commit().map_err(IndexError::from)));
        match committed.unwrap_or(Err(IndexError::Closed)) {
            Ok(()) => {}
            Err(err) if is_durable => return Ok(Written::Logged(err)),
            Err(err) => return Err(err),
        }
        self.tell(stored);
        self.bump(changes);
        let mut unchecked = self.unchecked();
        unchecked.0 += logged;
        unchecked.1 += changes.iter().map(Change::weight).sum::<usize>();
        Ok(Written::Visible)
    }

    /// Readers see what is told.
    fn tell(&self, stored: Option<StoredBytes>) {
        if let (Some(tell), Some(stored)) = (self.on_stored.get(), stored) {
            tell(&stored);
        }
    }

    /// Facts in memory that were read before these were visible are outdated.
    fn bump(&self, changes: &[Change]) {
        for change in changes {
            change.bump(&self.generations);
        }
    }

    /// Makes durable what is visible.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.log().sync().map_err(IndexError::Log)
    }

    /// Whether so much was written that its sync cannot wait.
    pub(super) fn needs_flush(&self) -> bool {
        self.log().needs_sync()
    }

    /// Whether so much was written that a checkpoint cannot wait.
    pub(super) fn needs_checkpoint(&self) -> bool {
        let (bytes, changes) = *self.unchecked();
        bytes >= CHECKPOINT_BYTES || changes >= CHECKPOINT_CHANGES
    }

    /// Makes the database durable, behind its log: it is never ahead of it.
    pub(super) fn checkpoint(&self) -> Result<(), IndexError> {
        let (position, lacks_snapshot) = {
            let mut log = self.log();
            log.sync().map_err(IndexError::Log)?;
            (log.position(), log.lacks_snapshot())
        };
        let transaction = self.database.begin_write(true)?;
        replay::save(&transaction, position, lacks_snapshot)?;
        transaction.commit()?;
        *self.unchecked() = (0, 0);
        Ok(())
    }

    /// Opens the database anew if it is closed, replays what it lost, and writes the changes that were kept. All is durable
    /// when it returns.
    pub(super) fn heal(&self, kept: &[Change], is_behind: bool, is_closed: &mut bool) -> Result<(), IndexError> {
        if *is_closed {
            self.database.reopen()?;
            *is_closed = false;
        }
        // A full disk must not fail the database again, which would be closed to readers, too.
        self.log().directory().probe(PROBE_BYTES + kept.len() * CHANGE_BYTES).map_err(IndexError::Log)?;
        self.flush()?;
        let caught_up = if is_behind { self.catch_up() } else { Ok(()) };
        let written = caught_up.and_then(|()| self.write(kept, true)).and_then(|written| match written {
            Written::Visible => self.checkpoint(),
            Written::Logged(err) => Err(err),
        });
        *is_closed = written.as_ref().is_err_and(|err| !matches!(err, IndexError::Log(_)));
        written
    }

    /// Replays the changes that were lost with the failed database: those since its last checkpoint.
    fn catch_up(&self) -> Result<(), IndexError> {
        let saved = replay::saved(&self.database.begin_read()?)?;
        let directory = self.log().directory().clone();
        let mut batch = Vec::new();
        let apply = |batch: &mut Vec<Change>| {
            let transaction = self.database.begin_write(false)?;
            for change in &*batch {
                change.apply(&transaction)?;
            }
            let mut stored = StoredBytes::after(batch, &transaction)?.unwrap_or_default();
            // What the log does not keep is lost: the sums may differ by that, too.
            stored.by_registry = stored::by_registry(&transaction.open_table(SUMS)?)?;
            transaction.commit()?;
            self.tell(Some(stored));
            self.bump(batch);
            batch.clear();
            Ok::<_, IndexError>(())
        };
        replay::replay(&directory, Some(saved.unwrap_or_default()), &mut Tally::default(), &mut |fact| {
            batch.push(Change::from(fact));
            if batch.len() < BATCH { Ok(()) } else { apply(&mut batch) }
        })?;
        apply(&mut batch)
    }

    /// Whether it is time for a snapshot.
    pub(super) fn is_long(&self) -> bool {
        self.log().is_long()
    }

    /// Begins a new file of the log, and shows all that the old ones hold.
    pub(super) fn rotate(&self) -> Result<(u64, ReadTransaction), IndexError> {
        self.flush()?;
        let number = self.log().rotate();
        // Durable before the old files go: a database that lags behind could not catch up.
        self.checkpoint()?;
        Ok((number, self.database.begin_read()?))
    }

    /// Takes a snapshot of what `from` shows. Other work goes on meanwhile.
    pub(super) fn take_snapshot(&self, number: u64, from: &ReadTransaction) {
        let directory = self.log().directory().clone();
        match snapshot::take(&directory, number, from, &|| !self.stopping.load(Ordering::Relaxed)) {
            Ok(bytes) => {
                self.log().snapshot_taken(bytes);
                tracing::debug!(bytes, "a snapshot of the facts was taken");
            }
            Err(IndexError::Closed) => {}
            Err(err) => {
                tracing::warn!(error = %err, "no snapshot of the facts could be taken; the log grows until the next one");
            }
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Timestamp;
    use crate::index::{GrantBlob, Index, Scope};
    use crate::oci::{Algorithm, Digest};

    fn scope() -> Scope {
        Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: "org/app".parse().unwrap() }
    }

    fn granted(nth: u64) -> Change {
        let digest = Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        Change::from(GrantBlob { scope: scope(), whole_authority: false, digest, day: 1 })
    }

    fn open(root: &Path) -> Index {
        Index::open(root, Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0
    }

    /// What a kill leaves of a storage.
    fn image(root: &Path) -> tempfile::TempDir {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("facts")).unwrap();
        std::fs::copy(root.join("index.redb"), image.path().join("index.redb")).unwrap();
        for entry in std::fs::read_dir(root.join("facts")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), image.path().join("facts").join(entry.file_name())).unwrap();
        }
        image
    }

    #[tokio::test]
    async fn durable_facts_are_there_after_a_kill_however_far_the_last_checkpoint_is() {
        let root = tempfile::tempdir().unwrap();
        let index = open(root.path());
        let mut killed = Vec::new();
        for nth in 0..3 * CHECKPOINT_CHANGES as u64 / 1000 {
            let facts = (0..999).map(|other| granted(nth * 1000 + other)).collect();
            index.apply(facts).await.unwrap();
            index.apply_durably(vec![granted(nth * 1000 + 999)]).await.unwrap();
            if nth % 4 == 0 {
                killed.push((image(root.path()), (nth + 1) * 1000));
            }
        }
        index.revoke(&scope(), Vec::new()).await.unwrap();
        killed.push((image(root.path()), 0));
        for (image, facts) in killed {
            let index = open(image.path());
            assert_eq!(index.counts().await.unwrap().blob_grants, facts);
            index.close().await;
        }
        index.close().await;
    }

    #[tokio::test]
    async fn a_log_that_has_lost_its_end_is_whole_when_the_start_returns() {
        let root = tempfile::tempdir().unwrap();
        let index = open(root.path());
        index.apply_durably(vec![granted(1)]).await.unwrap();
        index.close().await;
        drop(index);
        std::fs::remove_dir_all(root.path().join("facts")).unwrap();
        let index = open(root.path());
        let killed = image(root.path());
        index.close().await;
        std::fs::remove_file(killed.path().join("index.redb")).unwrap();
        let index = open(killed.path());
        assert_eq!(index.counts().await.unwrap().blob_grants, 1);
        index.close().await;
    }
}
