//! How many bytes are stored, told to whoever counts them as soon as readers see a change.

use redb::{ReadableTable, WriteTransaction};

use crate::index::eviction_order::STORED_BY;
use crate::index::facts::BytesMoved;
use crate::index::schema::{LAST, SUMS};
use crate::index::{Change, IndexError};
use crate::oci::Digest;

/// What the index counts as stored, and the records that have just changed.
#[derive(Debug, Clone, Default)]
pub struct StoredBytes {
    /// By the registry that can give them again; the empty name is for those that none can.
    pub by_registry: Vec<(String, u64)>,
    pub put: Vec<Digest>,
    pub removed: Vec<Digest>,
}

pub(in crate::index) type OnStored = Box<dyn Fn(&StoredBytes) + Send + Sync>;

impl StoredBytes {
    /// `None` where none of the changes is of stored bytes.
    pub(in crate::index) fn after(changes: &[Change], to: &WriteTransaction) -> Result<Option<Self>, IndexError> {
        let (mut put, mut removed, mut has_moved) = (Vec::new(), Vec::new(), false);
        for change in changes {
            match change.moves_bytes() {
                BytesMoved::None => {}
                BytesMoved::Put(digest) => put.push(digest),
                BytesMoved::Removed(digests) => removed.extend(digests),
                BytesMoved::Origin => has_moved = true,
            }
        }
        if put.is_empty() && removed.is_empty() && !has_moved {
            return Ok(None);
        }
        Ok(Some(Self { by_registry: by_registry(&to.open_table(SUMS)?)?, put, removed }))
    }
}

/// The sums by registry.
pub(in crate::index) fn by_registry(
    sums: &impl ReadableTable<&'static str, u64>,
) -> Result<Vec<(String, u64)>, IndexError> {
    let last = format!("{STORED_BY}{LAST}");
    let mut found = Vec::new();
    for entry in sums.range(STORED_BY..=last.as_str())? {
        let (name, bytes) = entry?;
        found.push((name.value().trim_start_matches(STORED_BY).to_owned(), bytes.value()));
    }
    Ok(found)
}
