//! The database file: opened, read, and opened again when it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Durability, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::Notify;

use super::{IndexError, schema};

/// redb's page cache. Bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

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
