//! Blobs that were found wrong and that no upstream can give again, until they are stored anew.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind};
use crate::clock::Timestamp;
use crate::index::IndexError;
use crate::index::schema::{self, BLOBS, UNRECOVERABLE};
use crate::oci::Digest;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecoverable {
    pub size_bytes: u64,
    /// When its bytes were found to be wrong.
    pub found: Timestamp,
}

/// Its bytes were wrong, and no upstream can give them again. [`super::PutBlob`] takes it back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutUnrecoverable {
    pub digest: Digest,
    pub row: Unrecoverable,
}

impl Kind for PutUnrecoverable {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let row = schema::json(&self.row)?;
        to.open_table(UNRECOVERABLE)?.insert(self.digest.to_string().as_str(), row.as_slice())?;
        Ok(())
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    /// A blob that is there has healed.
    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        Ok(from.open_table(BLOBS)?.get(self.digest.to_string().as_str())?.is_none())
    }

    fn outlives_loss(&self, to: &WriteTransaction) -> Result<bool, IndexError> {
        Ok(to.open_table(BLOBS)?.get(self.digest.to_string().as_str())?.is_none())
    }
}

/// It is stored again.
pub(super) fn heal(to: &WriteTransaction, digest: Digest) -> Result<(), IndexError> {
    to.open_table(UNRECOVERABLE)?.remove(digest.to_string().as_str())?;
    Ok(())
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    match from.open_table(UNRECOVERABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(()),
        table => schema::each_of(&table?, |digest, row| each(Fact::PutUnrecoverable(PutUnrecoverable { digest, row }))),
    }
}
