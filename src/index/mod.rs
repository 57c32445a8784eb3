//! Facts, in redb: who may read what, what tags point to, what is stored.
//!
//! Reads run off the async runtime. Changes go through one writer, which makes them visible at once and durable within
//! half a second: losing one costs a request, never a byte. What must not be lost waits for the durable commit.

mod change;
mod read;
mod row;
mod table;
mod writer;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _};

pub use change::Change;
pub use read::{HeldManifest, HeldTag};
pub use row::{BlobRow, GrantRow, HistoryEntry, ListRow, ReferrerRow, TagRow};

use crate::oci::{Authority, Repository};

use writer::Writer;

/// redb's page cache. Bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Where a client asked, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// 0 is the mirror's own credentials.
    pub domain: u32,
    pub authority: Authority,
    pub repository: Repository,
}

pub struct Index {
    database: Arc<Database>,
    writer: Writer,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index cannot be read or written: {0}")]
    Database(Box<redb::Error>),
    #[error("the index holds a row that cannot be read")]
    BadRow,
    #[error("the index is closed")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for IndexError {
    fn from(err: E) -> Self {
        Self::Database(Box::new(err.into()))
    }
}

/// Whether the index was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    Existing,
    /// There was none, as at the very first start.
    New,
    /// There was one that could not be used; it was set aside.
    Damaged,
}

impl Index {
    /// Opens or makes the index at `path`. A damaged file is renamed, not deleted. Blocking; for start-up.
    pub fn open(path: &Path) -> io::Result<(Self, Opened)> {
        let existed = path.exists();
        let (database, opened) = match open_database(path) {
            Ok(database) => (database, if existed { Opened::Existing } else { Opened::New }),
            Err(_unusable) if existed => {
                std::fs::rename(path, path.with_extension("redb.damaged"))?;
                let database = open_database(path).map_err(|err| io::Error::other(err.to_string()))?;
                (database, Opened::Damaged)
            }
            Err(err) => return Err(io::Error::other(err.to_string())),
        };
        let database = Arc::new(database);
        let writer = Writer::start(Arc::clone(&database));
        Ok((Self { database, writer }, opened))
    }

    /// Makes changes together, and visible to every read that starts later.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.writer.apply(changes, writer::Until::Visible).await
    }

    /// The same, and waits until they would survive a power cut.
    pub async fn apply_durably(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.writer.apply(changes, writer::Until::Durable).await
    }

    /// Writes down what is pending and stops the writer.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let database = Arc::clone(&self.database);
        let done = tokio::task::spawn_blocking(move || work(&database.begin_read()?)).await;
        done.unwrap_or(Err(IndexError::Closed))
    }
}

/// Opens, makes all tables, and reads from one, so that damage shows now.
fn open_database(path: &Path) -> Result<Database, IndexError> {
    // redb may panic on bytes that it never wrote.
    let open = || {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        table::create_all(&transaction)?;
        transaction.commit()?;
        Ok(database)
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(IndexError::BadRow))
}
