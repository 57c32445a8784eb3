//! Rows that go because an upstream has too many of them.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::list::{KeptList, drop_one};
use super::{GrantRow, Kind, TagRow};
use crate::index::generation::Generations;
use crate::index::schema::{
    ANY_REPOSITORY, BLOB_GRANTS, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, OwnedKey, REFERRED, REFERRERS, ScopedKey, TAGS,
};
use crate::index::{IndexError, Scope};

/// What a row takes beside its key and its value, about. Bytes.
pub(in crate::index) const ROW_BYTES: u64 = 64;

/// A table in which names that clients and upstreams choose make rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::index) enum RowTable {
    Tags,
    Lists,
    ManifestGrants,
    BlobGrants,
    ManifestTypes,
    Referrers,
}

impl RowTable {
    pub(in crate::index) const ALL: [Self; 6] =
        [Self::Tags, Self::Lists, Self::ManifestGrants, Self::BlobGrants, Self::ManifestTypes, Self::Referrers];

    pub(in crate::index) const fn definition(self) -> TableDefinition<'static, ScopedKey, &'static [u8]> {
        match self {
            Self::Tags => TAGS,
            Self::Lists => LISTS,
            Self::ManifestGrants => MANIFEST_GRANTS,
            Self::BlobGrants => BLOB_GRANTS,
            Self::ManifestTypes => MANIFEST_TYPES,
            Self::Referrers => REFERRERS,
        }
    }

    /// Bytes of a row, with the content of a list.
    pub(in crate::index) fn bytes(self, key: (u32, &str, &str, &str), row: &[u8]) -> u64 {
        let names = (key.1.len() + key.2.len() + key.3.len()) as u64;
        let own = names + row.len() as u64 + ROW_BYTES;
        match self {
            Self::Lists => own + serde_json::from_slice::<KeptList>(row).map_or(0, |row| row.size_bytes),
            // It is in two tables.
            Self::Referrers => own + names + ROW_BYTES,
            Self::Tags | Self::ManifestGrants | Self::BlobGrants | Self::ManifestTypes => own,
        }
    }

    /// The digest that a row is about, as a text.
    pub(in crate::index) fn digest<'a>(self, key: (u32, &'a str, &'a str, &'a str)) -> Option<&'a str> {
        match self {
            Self::Tags | Self::Lists => None,
            Self::ManifestGrants | Self::BlobGrants => Some(key.3),
            Self::ManifestTypes => Some(key.2),
            Self::Referrers => key.3.split_once(' ').map(|(_, referrer)| referrer),
        }
    }

    /// The day on which a row was last used or checked, where the row tells it.
    pub(in crate::index) fn day(self, row: &[u8]) -> Option<u64> {
        match self {
            Self::Tags => serde_json::from_slice::<TagRow>(row).ok().map(|row| row.checked.day()),
            Self::Lists => serde_json::from_slice::<KeptList>(row).ok().map(|row| row.checked.day()),
            Self::ManifestGrants | Self::BlobGrants => {
                serde_json::from_slice::<GrantRow>(row).ok().map(|row| row.used_day)
            }
            Self::ManifestTypes | Self::Referrers => None,
        }
    }
}

impl Scope {
    /// About what a row of this scope takes, with so many bytes beside the names of the scope.
    pub(super) fn row_bytes(&self, others: usize) -> u64 {
        (self.authority.as_str().len() + self.repository.as_str().len() + others) as u64 + ROW_BYTES
    }
}

/// Rows that were found to be the least used, to be dropped if they were not used since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropRows {
    pub(in crate::index) table: RowTable,
    pub(in crate::index) keys: Vec<OwnedKey>,
    /// They were last used on this day, or before.
    pub(in crate::index) day: u64,
}

impl DropRows {
    fn drop_one(&self, to: &WriteTransaction, key: &OwnedKey) -> Result<(), IndexError> {
        let names = (key.0, key.1.as_str(), key.2.as_str(), key.3.as_str());
        let mut rows = to.open_table(self.table.definition())?;
        let is_used = rows.get(names)?.is_some_and(|row| self.table.day(row.value()).is_some_and(|day| day > self.day));
        if is_used {
            return Ok(());
        }
        match (self.table, key.3.split_once(' ')) {
            (RowTable::Lists, _) => {
                drop(rows);
                drop_one(to, key)?;
            }
            (RowTable::Referrers, Some((subject, referrer))) => {
                rows.remove(names)?;
                to.open_table(REFERRED)?.remove((referrer, names.0, names.1, names.2, subject))?;
            }
            _ => drop(rows.remove(names)?),
        }
        Ok(())
    }
}

impl Kind for DropRows {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        self.keys.iter().try_for_each(|key| self.drop_one(to, key))
    }

    fn bump(&self, generations: &Generations) {
        for key in &self.keys {
            let names = (key.0, key.1.as_str(), key.2.as_str(), key.3.as_str());
            if let Some(Ok(digest)) = self.table.digest(names).map(str::parse) {
                generations.bump_digest(digest);
            }
            let repository = if key.2.is_empty() { ANY_REPOSITORY } else { names.2 };
            if let (RowTable::Tags, Ok(authority), Ok(repository), Ok(tag)) =
                (self.table, names.1.parse(), repository.parse(), names.3.parse())
            {
                generations.bump_tag(&Scope { domain: key.0, authority, repository }, &tag);
            }
        }
    }

    fn weight(&self) -> usize {
        self.keys.len()
    }
}
