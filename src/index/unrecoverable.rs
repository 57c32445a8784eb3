//! What was found wrong and nobody can give again, until it is stored anew.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Index, IndexError};
use crate::clock::Timestamp;
use crate::oci::Digest;

/// digest → [`Unrecoverable`]. Made when it is first needed.
pub(super) const UNRECOVERABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("lost");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecoverable {
    pub size_bytes: u64,
    /// When its bytes were found to be wrong.
    pub found: Timestamp,
}

pub(super) fn put(to: &WriteTransaction, digest: Digest, row: &Unrecoverable) -> Result<(), IndexError> {
    let row = serde_json::to_vec(row).map_err(|_not_json| IndexError::BadRow)?;
    to.open_table(UNRECOVERABLE)?.insert(digest.to_string().as_str(), row.as_slice())?;
    Ok(())
}

/// It is stored again.
pub(super) fn heal(to: &WriteTransaction, digest: Digest) -> Result<(), IndexError> {
    to.open_table(UNRECOVERABLE)?.remove(digest.to_string().as_str())?;
    Ok(())
}

/// Whether there is no stored blob of this digest: one that is there has healed.
pub(super) fn is_missing(
    blobs: &impl ReadableTable<&'static str, &'static [u8]>,
    digest: Digest,
) -> Result<bool, IndexError> {
    Ok(blobs.get(digest.to_string().as_str())?.is_none())
}

impl Index {
    pub async fn unrecoverable(&self) -> Result<Vec<(Digest, Unrecoverable)>, IndexError> {
        self.read(|from| {
            let table = match from.open_table(UNRECOVERABLE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut lost = Vec::new();
            for entry in table.iter()? {
                let (digest, row) = entry?;
                let digest = digest.value().parse().map_err(|_not_one| IndexError::BadRow)?;
                lost.push((digest, serde_json::from_slice(row.value()).map_err(|_not_the_row| IndexError::BadRow)?));
            }
            Ok(lost)
        })
        .await
    }
}
