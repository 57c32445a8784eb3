//! The database file: opened, read, and opened again when it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Durability, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::Notify;

use super::IndexError;
use super::schema::{self, COMPACTED_BYTES, SUMS};

/// redb's page cache. Bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// A file that is no larger stays as it is. Bytes.
const SMALL: u64 = 64 * 1024 * 1024;

/// The engine answers nothing any more once its file has failed: then it is closed and opened anew.
pub(super) struct Database {
    path: PathBuf,
    /// `None` while it is being opened anew.
    current: RwLock<Option<redb::Database>>,
    /// A reader found that the file has failed.
    pub(super) suspected: Notify,
}

impl Database {
    pub(super) fn new(path: PathBuf, database: redb::Database) -> Self {
        Self { path, current: RwLock::new(Some(database)), suspected: Notify::new() }
    }

    /// The file, and the directory of the log beside it.
    pub(super) fn files(&self) -> (PathBuf, PathBuf) {
        (self.path.clone(), self.path.with_file_name("facts"))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, IndexError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Ok(current.as_ref().ok_or(IndexError::Unavailable)?.begin_read()?)
    }

    /// The writer's. A durable one makes all before it durable.
    pub(super) fn begin_write(&self, is_durable: bool) -> Result<WriteTransaction, IndexError> {
        let transaction = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current.as_ref().ok_or(IndexError::Unavailable)?.begin_write()?
        };
        set_durability(transaction, is_durable)
    }

    /// Closes the file and opens it again. Readers get an error meanwhile, and what was not durable is gone.
    pub(super) fn reopen(&self) -> Result<(), IndexError> {
        let failed = self.current.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(failed);
        let database = open(&self.path)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(())
    }
}

/// How every transaction that writes is set up.
pub(super) fn set_durability(
    mut transaction: WriteTransaction,
    is_durable: bool,
) -> Result<WriteTransaction, IndexError> {
    if is_durable {
        transaction.set_durability(Durability::Immediate)?;
        // Without it, opening after a kill -9 would walk the whole file.
        transaction.set_quick_repair(true);
    } else {
        transaction.set_durability(Durability::None)?;
    }
    Ok(transaction)
}

/// Opens, and reads from every table, so that damage shows now. Tables that are missing are made; a file that has them all
/// is not written to.
pub(super) fn open(path: &Path) -> Result<redb::Database, IndexError> {
    // redb may panic on bytes that it never wrote.
    let open = || {
        let database = redb::Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        if schema::read_all(&database.begin_read()?).is_err() {
            let transaction = set_durability(database.begin_write()?, true)?;
            schema::create_all(&transaction)?;
            transaction.commit()?;
            schema::read_all(&database.begin_read()?)?;
        }
        Ok(database)
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(IndexError::BadRow))
}

/// Makes a file smaller that is mostly empty: the engine uses pages again that were freed, but keeps them. For start-up.
pub(super) fn shrink(path: &Path, database: redb::Database) -> Result<redb::Database, IndexError> {
    let size = || path.metadata().map_or(0, |metadata| metadata.len());
    let before = size();
    let (needed, last) = {
        let from = database.begin_read()?;
        let last = from.open_table(SUMS)?.get(COMPACTED_BYTES)?.map_or(0, |sum| sum.value());
        (schema::most_bytes(&from)?, last)
    };
    // Where the estimate is wrong, the work is done once, and not at every start.
    if before <= SMALL || before / 2 <= needed || before / 2 <= last {
        return Ok(database);
    }
    let compact = move || {
        let mut database = database;
        database.compact()?;
        let transaction = set_durability(database.begin_write()?, true)?;
        transaction.open_table(SUMS)?.insert(COMPACTED_BYTES, size())?;
        transaction.commit()?;
        Ok(database)
    };
    match catch_unwind(AssertUnwindSafe(compact)).unwrap_or(Err(IndexError::BadRow)) {
        Ok(database) => {
            tracing::info!(
                before,
                after = path.metadata().map_or(0, |metadata| metadata.len()),
                "the index was made smaller"
            );
            Ok(database)
        }
        Err(err) => {
            tracing::warn!(error = %err, "the index could not be made smaller; it is used as it is");
            open(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableTableMetadata as _;

    use super::super::schema::LIST_CONTENTS;
    use super::*;

    #[test]
    fn t51_an_index_that_is_mostly_empty_becomes_smaller_at_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.redb");
        let size = || path.metadata().unwrap().len();
        let database = open(&path).unwrap();
        let change = |content: Option<&[u8]>| {
            let transaction = set_durability(database.begin_write().unwrap(), true).unwrap();
            let mut contents = transaction.open_table(LIST_CONTENTS).unwrap();
            for nth in 0..1500_u32 {
                let name = format!("{nth:04}");
                match content {
                    Some(content) => drop(contents.insert(name.as_str(), content).unwrap()),
                    None if nth.is_multiple_of(100) => {}
                    None => drop(contents.remove(name.as_str()).unwrap()),
                }
            }
            drop(contents);
            transaction.commit().unwrap();
        };
        change(Some(&vec![7; 100_000]));
        change(None);
        drop(database);
        let before = size();
        assert!(before > 2 * SMALL, "{before}");
        let database = shrink(&path, open(&path).unwrap()).unwrap();
        assert_eq!(database.begin_read().unwrap().open_table(LIST_CONTENTS).unwrap().len().unwrap(), 15);
        drop(database);
        assert!(size() < SMALL / 2, "{}", size());
        assert_eq!(open(&path).unwrap().begin_read().unwrap().open_table(LIST_CONTENTS).unwrap().len().unwrap(), 15);
    }
}
