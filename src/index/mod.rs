//! Facts, in redb: who may read what, what tags point to, what is stored.
//!
//! Reads run off the async runtime. Changes go through one writer, which makes them visible at once and durable within
//! half a second: losing one costs a request, never a byte. What must not be lost waits for the durable commit.

mod change;
mod lost;
mod read;
mod row;
mod table;
mod writer;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _};

pub use change::{Aging, Change, OwnedKey};
pub use lost::LostRow;
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

impl IndexError {
    /// Whether the file itself is wrong, and not the way to it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else the engine finds wrong is in the file")]
    fn is_damage(&self) -> bool {
        match self {
            Self::BadRow => true,
            Self::Closed => false,
            Self::Database(err) => match &**err {
                redb::Error::Io(err) => matches!(
                    err.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
                ),
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => false,
                _ => true,
            },
        }
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
    /// Opens or makes the index at `path`. A damaged file is renamed, not deleted; one that cannot be reached, as on a full
    /// or failing disk, stays where it is. Blocking; for start-up.
    pub fn open(path: &Path) -> io::Result<(Self, Opened)> {
        let length = path.metadata().ok().map(|metadata| metadata.len());
        let found = match length {
            None => Err(Opened::New),
            // The engine would take an empty file for a new index, and nobody would look at what is stored.
            Some(0) => Err(Opened::Damaged),
            Some(_) => match open_database(path) {
                Ok(database) => Ok(database),
                Err(err) if err.is_damage() => Err(Opened::Damaged),
                Err(err) => return Err(io::Error::other(err.to_string())),
            },
        };
        let (database, opened) = match found {
            Ok(database) => (database, Opened::Existing),
            Err(opened) => {
                if opened == Opened::Damaged {
                    std::fs::rename(path, path.with_extension("redb.damaged"))?;
                }
                (open_database(path).map_err(|err| io::Error::other(err.to_string()))?, opened)
            }
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
        self.writer.apply(changes, writer::Until::DurableNow).await
    }

    /// Waits until all that is visible now has become durable by itself.
    pub async fn settled(&self) -> Result<(), IndexError> {
        self.writer.apply(Vec::new(), writer::Until::DurableSoon).await
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

/// Opens, and reads from every table, so that damage shows now. Tables that are missing are made; a file that has them all
/// is not written to.
fn open_database(path: &Path) -> Result<Database, IndexError> {
    // redb may panic on bytes that it never wrote.
    let open = || {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        if table::look_at_all(&database.begin_read()?).is_err() {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            table::create_all(&transaction)?;
            transaction.commit()?;
            table::look_at_all(&database.begin_read()?)?;
        }
        Ok(database)
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(IndexError::BadRow))
}
