//! The database file: opened, read, and opened again when it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::Notify;

use super::{IndexError, table};

/// redb's page cache. Bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The engine answers nothing any more once its file has failed: then it is closed and opened anew.
pub(super) struct Engine {
    path: PathBuf,
    /// `None` while it is being opened anew.
    current: RwLock<Option<Database>>,
    /// A reader found that the file has failed.
    pub(super) suspected: Notify,
}

impl Engine {
    pub(super) fn new(path: PathBuf, database: Database) -> Self {
        Self { path, current: RwLock::new(Some(database)), suspected: Notify::new() }
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
        settle(transaction, is_durable)
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
pub(super) fn settle(mut transaction: WriteTransaction, is_durable: bool) -> Result<WriteTransaction, IndexError> {
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
pub(super) fn open(path: &Path) -> Result<Database, IndexError> {
    // redb may panic on bytes that it never wrote.
    let open = || {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        if table::look_at_all(&database.begin_read()?).is_err() {
            let transaction = settle(database.begin_write()?, true)?;
            table::create_all(&transaction)?;
            transaction.commit()?;
            table::look_at_all(&database.begin_read()?)?;
        }
        Ok(database)
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(IndexError::BadRow))
}
