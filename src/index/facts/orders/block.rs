//! Blocks: what may not be pulled, by order of an operator.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::index::facts::{Each, Fact, Kind};
use crate::index::schema::{self, BLOCKS};
use crate::index::{IndexError, is_default};
use crate::oci::{BlockPattern, Digest};

/// Why something is blocked, and what that reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
    /// What the blocked manifests list, at any depth; of a glob over tags, also the manifests themselves. It is kept here
    /// because the manifests may be evicted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reaches: Vec<Digest>,
    /// Those of them that images use which are not blocked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutBlock {
    pub block: BlockPattern,
    pub row: BlockRow,
}

impl Kind for PutBlock {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        to.open_table(BLOCKS)?.insert(self.block.as_str(), schema::json(&self.row)?.as_slice())?;
        Ok(())
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        match from.open_table(BLOCKS) {
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(true),
            table => Ok(table?.get(self.block.as_str())?.is_none()),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveBlock {
    pub block: BlockPattern,
}

impl Kind for RemoveBlock {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        to.open_table(BLOCKS)?.remove(self.block.as_str())?;
        Ok(())
    }
}

/// All blocks, in the order of their texts. One that another release wrote and this one cannot read blocks nothing.
pub(in crate::index) fn each(
    from: &ReadTransaction,
    mut each: impl FnMut(BlockPattern, BlockRow) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let table = match from.open_table(BLOCKS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        table => table?,
    };
    for entry in table.iter()? {
        let (block, row) = entry?;
        let (Ok(block), Ok(row)) = (block.value().parse(), serde_json::from_slice(row.value())) else { continue };
        each(block, row)?;
    }
    Ok(())
}

pub(in crate::index::facts) fn all(from: &ReadTransaction, give: Each<'_>) -> Result<(), IndexError> {
    each(from, |block, row| give(Fact::PutBlock(PutBlock { block, row })))
}
