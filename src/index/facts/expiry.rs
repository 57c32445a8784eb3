//! Rows that go when they were not used for long.

use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::list::{KeptList, drop_one};
use super::{GrantRow, Kind};
use crate::index::IndexError;
use crate::index::generation::Generations;
use crate::index::schema::{Aging, OwnedKey};

/// Whether the row was last used, or checked, before that day. One that cannot be read is of no use.
pub(in crate::index) fn is_unused(table: Aging, row: &[u8], before_day: u64) -> bool {
    let day = match table {
        Aging::ManifestGrants | Aging::BlobGrants => serde_json::from_slice::<GrantRow>(row).map(|row| row.used_day),
        Aging::Lists => serde_json::from_slice::<KeptList>(row).map(|row| row.checked.day()),
    };
    day.map_or(true, |day| day < before_day)
}

/// A key as [`crate::index::Index::expired`] found it, to be dropped if it is still unused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropExpired {
    pub table: Aging,
    pub key: OwnedKey,
    pub before_day: u64,
}

impl Kind for DropExpired {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let mut rows = to.open_table(self.table.definition())?;
        let (domain, authority, repository, what) = &self.key;
        let key = (*domain, authority.as_str(), repository.as_str(), what.as_str());
        let unused = rows.get(key)?.is_some_and(|row| is_unused(self.table, row.value(), self.before_day));
        match self.table {
            Aging::Lists if unused => {
                drop(rows);
                drop_one(to, &self.key)?;
            }
            Aging::ManifestGrants | Aging::BlobGrants if unused => {
                rows.remove(key)?;
            }
            Aging::Lists | Aging::ManifestGrants | Aging::BlobGrants => {}
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        // Lists expire too, and are not kept in memory.
        if let Ok(digest) = self.key.3.parse() {
            generations.bump_digest(digest);
        }
    }
}
