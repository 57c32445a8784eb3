//! Tables, their keys, and how rows are read and written. Rows with fields are JSON, so that a field can be added
//! without a migration. Sums, pins, the eviction order and its marks are numbers, tuples or empty.

use std::ops::RangeInclusive;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{IndexError, Scope};
use crate::oci::{Digest, Repository, Tag};

/// (domain, authority, repository, what).
pub(super) type ScopedKey = (u32, &'static str, &'static str, &'static str);
type Row = &'static [u8];
type PullKey = (u64, &'static str, &'static str, &'static str, &'static str, &'static str);

/// … tag → [`super::TagRow`].
pub(super) const TAGS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("tags");
/// … list and page → [`super::facts::KeptList`].
pub(super) const LISTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("lists");
/// A content's digest → the content of the lists that have it, as it is answered.
pub(super) const LIST_CONTENTS: TableDefinition<'_, &str, Row> = TableDefinition::new("list_contents");
/// A content's digest → how many lists have it.
pub(super) const LIST_USES: TableDefinition<'_, &str, u64> = TableDefinition::new("list_uses");
/// … digest → [`super::GrantRow`] of a manifest. The repository is empty where one grant opens the whole authority.
pub(super) const MANIFEST_GRANTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("manifest_grants");
/// … digest → [`super::GrantRow`] of a blob.
pub(super) const BLOB_GRANTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("blob_grants");
/// (domain, authority, digest, "") → media type at the first verified fetch.
pub(super) const MANIFEST_TYPES: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("manifest_types");
/// (domain, authority, repository, subject and referrer) → [`super::ReferrerRow`].
pub(super) const REFERRERS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("referrers");
/// (referrer, domain, authority, repository, subject) of each row of [`REFERRERS`] that was put since there is this table.
/// Made when it is first needed.
pub(super) const REFERRED: TableDefinition<'_, (&str, u32, &str, &str, &str), ()> = TableDefinition::new("referred");
/// digest → [`super::BlobRow`].
pub(super) const BLOBS: TableDefinition<'_, &str, Row> = TableDefinition::new("blobs");
/// manifest's digest → digests of what it needs.
pub(super) const CHILDREN: TableDefinition<'_, &str, Row> = TableDefinition::new("children");
/// digest → [`super::Unrecoverable`]. Made when it is first needed.
pub(super) const UNRECOVERABLE: TableDefinition<'_, &str, Row> = TableDefinition::new("lost");
/// Pins made by command: pattern → when, in seconds.
pub(super) const PINS: TableDefinition<'_, &str, u64> = TableDefinition::new("pins");
/// Blocks: pattern → [`super::BlockRow`]. Made when it is first needed.
pub(super) const BLOCKS: TableDefinition<'_, &str, Row> = TableDefinition::new("blocks");
/// (day, authority, repository, manifest's digest, tag or empty, who) → (first, last, how often), in milliseconds. The oldest day
/// comes first, because it goes first. Made when it is first needed.
pub(super) const PULLS: TableDefinition<'_, PullKey, (u64, u64, u64)> = TableDefinition::new("pulls");
/// What the rows of [`PULLS`] take, about.
pub(super) const PULL_BYTES: &str = "pull_bytes";
/// (the authority it can come from again, class, seconds since the epoch of its last use, digest) → size in bytes.
pub(super) const ORDER: TableDefinition<'_, (&str, u8, u64, &str), u64> = TableDefinition::new("order");
/// digest → (the authority it can come from again, class, seconds of its last use, size in bytes).
pub(super) const RECENCY: TableDefinition<'_, &str, (&str, u8, u64, u64)> = TableDefinition::new("recency");
/// digest → when it was last found to be pinned, in seconds.
pub(super) const PINNED: TableDefinition<'_, &str, u64> = TableDefinition::new("pinned");
/// Blobs whose files are being removed. The next start looks at those that a crash leaves here.
pub(super) const EVICTING: TableDefinition<'_, &str, ()> = TableDefinition::new("evicting");
/// Sums, so that start-up counts nothing.
pub(super) const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums");
pub(super) const STORED_BYTES: &str = "stored_bytes";
/// How far the log was taken in (see `log`).
pub(super) const JOURNAL_NUMBER: &str = "journal_number";
pub(super) const JOURNAL_OFFSET: &str = "journal_offset";
/// Not zero while the log does not tell all that the index knows.
pub(super) const LACKS_SNAPSHOT: &str = "lacks_snapshot";

/// Not zero where the sums of stored bytes are in whole blocks.
pub(super) const IN_BLOCKS: &str = "counted_in_blocks";

/// Size of the file after it was last made smaller.
pub(super) const COMPACTED_BYTES: &str = "compacted_bytes";
/// Bytes of a registry's lists. Its name follows.
pub(super) const LIST_BYTES: &str = "list_bytes/";

/// Above every character that a key's last part holds.
pub(super) const LAST: &str = "\u{10ffff}";

/// Stands in a grant for a whole authority, where the repository is not known.
pub(super) const ANY_REPOSITORY: &str = "any";

/// Tables whose rows are dropped when they were not used for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aging {
    ManifestGrants,
    BlobGrants,
    Lists,
}

/// A key of one of them: domain, authority, repository, what.
pub type OwnedKey = (u32, String, String, String);

impl Aging {
    pub const ALL: [Self; 3] = [Self::ManifestGrants, Self::BlobGrants, Self::Lists];

    pub(super) const fn definition(self) -> TableDefinition<'static, ScopedKey, &'static [u8]> {
        match self {
            Self::ManifestGrants => MANIFEST_GRANTS,
            Self::BlobGrants => BLOB_GRANTS,
            Self::Lists => LISTS,
        }
    }
}

const SCOPED: [TableDefinition<'_, ScopedKey, Row>; 6] =
    [TAGS, LISTS, MANIFEST_GRANTS, BLOB_GRANTS, MANIFEST_TYPES, REFERRERS];

/// Reads a row of each table.
pub(super) fn read_all(transaction: &ReadTransaction) -> Result<(), IndexError> {
    for scoped in SCOPED {
        transaction.open_table(scoped)?.first()?;
    }
    transaction.open_table(LIST_CONTENTS)?.first()?;
    transaction.open_table(LIST_USES)?.first()?;
    transaction.open_table(BLOBS)?.first()?;
    transaction.open_table(CHILDREN)?.first()?;
    transaction.open_table(SUMS)?.first()?;
    transaction.open_table(PINS)?.first()?;
    transaction.open_table(ORDER)?.first()?;
    transaction.open_table(RECENCY)?.first()?;
    transaction.open_table(PINNED)?.first()?;
    transaction.open_table(EVICTING)?.first()?;
    Ok(())
}

/// What the rows need in the file, on the high side for all but very long rows. Costs the same however many there are.
pub(super) fn most_bytes(transaction: &ReadTransaction) -> Result<u64, IndexError> {
    const ROW_BYTES: u64 = 1024;
    let mut rows = 0;
    for scoped in SCOPED {
        rows += transaction.open_table(scoped)?.len()?;
    }
    rows += transaction.open_table(BLOBS)?.len()? + transaction.open_table(CHILDREN)?.len()?;
    rows += transaction.open_table(ORDER)?.len()? + transaction.open_table(RECENCY)?.len()?;
    let pulls = transaction.open_table(SUMS)?.get(PULL_BYTES)?.map_or(0, |sum| sum.value());
    let last = format!("{LIST_BYTES}{LAST}");
    let mut bytes = rows.saturating_mul(ROW_BYTES).saturating_add(pulls.saturating_mul(4));
    for sum in transaction.open_table(SUMS)?.range(LIST_BYTES..=last.as_str())? {
        bytes = bytes.saturating_add(sum?.1.value());
    }
    Ok(bytes)
}

pub(super) fn create_all(transaction: &WriteTransaction) -> Result<(), IndexError> {
    for scoped in SCOPED {
        transaction.open_table(scoped)?;
    }
    transaction.open_table(LIST_CONTENTS)?;
    transaction.open_table(LIST_USES)?;
    transaction.open_table(BLOBS)?;
    transaction.open_table(CHILDREN)?;
    transaction.open_table(SUMS)?;
    transaction.open_table(PINS)?;
    transaction.open_table(ORDER)?;
    transaction.open_table(RECENCY)?;
    transaction.open_table(PINNED)?;
    transaction.open_table(EVICTING)?;
    Ok(())
}

/// A scope's key in a table, with an owned last part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    scope: Scope,
    whole_authority: bool,
    what: String,
}

impl Key {
    pub(super) fn tag(scope: &Scope, tag: &Tag) -> Self {
        Self::new(scope, tag.as_str().to_owned())
    }

    pub(super) fn list(scope: &Scope, list: &str) -> Self {
        Self::new(scope, list.to_owned())
    }

    pub(super) fn digest(scope: &Scope, digest: Digest, whole_authority: bool) -> Self {
        Self { whole_authority, ..Self::new(scope, digest.to_string()) }
    }

    pub(super) fn referrer(scope: &Scope, subject: Digest, referrer: Digest) -> Self {
        Self::new(scope, format!("{subject} {referrer}"))
    }

    fn new(scope: &Scope, what: String) -> Self {
        Self { scope: scope.clone(), whole_authority: false, what }
    }

    pub(super) fn as_tuple(&self) -> (u32, &str, &str, &str) {
        let repository = if self.whole_authority { "" } else { self.scope.repository.as_str() };
        (self.scope.domain, self.scope.authority.as_str(), repository, &self.what)
    }
}

/// The key of a manifest's media type within an authority.
pub(super) fn type_key<'a>(scope: &'a Scope, digest: &'a str) -> (u32, &'a str, &'a str, &'a str) {
    (scope.domain, scope.authority.as_str(), digest, "")
}

/// The keys of a scope, from one last part to another.
pub(super) fn range<'a>(
    scope: &'a Scope,
    first: &'a str,
    last: &'a str,
) -> RangeInclusive<(u32, &'a str, &'a str, &'a str)> {
    let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
    (scope.domain, authority, repository, first)..=(scope.domain, authority, repository, last)
}

/// Whether a scope has rows whose last part begins with this.
pub(super) fn has_rows(
    table: &impl ReadableTable<ScopedKey, Row>,
    scope: &Scope,
    begins: &str,
) -> Result<bool, IndexError> {
    let last = format!("{begins}{LAST}");
    Ok(table.range(range(scope, begins, &last))?.next().is_some())
}

pub(super) fn json(row: &impl Serialize) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec(row).map_err(|_unserialisable| IndexError::BadRow)
}

/// A row as far as it can be read.
pub(super) fn row<T: DeserializeOwned>(
    table: &impl ReadableTable<ScopedKey, Row>,
    key: &Key,
) -> Result<Option<T>, IndexError> {
    Ok(table.get(key.as_tuple())?.and_then(|row| serde_json::from_slice(row.value()).ok()))
}

/// The same by digest.
pub(super) fn row_of<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, Row>,
    digest: Digest,
) -> Result<Option<T>, IndexError> {
    Ok(table.get(digest.to_string().as_str())?.and_then(|row| serde_json::from_slice(row.value()).ok()))
}

/// Every row that can be read: its scope, whether it is of the whole authority, and the last part of its key.
pub(super) fn each_scoped<T: DeserializeOwned>(
    from: &ReadTransaction,
    table: TableDefinition<'_, ScopedKey, Row>,
    mut each: impl FnMut(Scope, bool, &str, T) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    for entry in from.open_table(table)?.iter()? {
        let (key, row) = entry?;
        let (domain, authority, repository, what) = key.value();
        let whole_authority = repository.is_empty();
        let repository = if whole_authority { ANY_REPOSITORY } else { repository };
        let (Ok(authority), Ok(repository)) = (authority.parse(), repository.parse::<Repository>()) else { continue };
        let Ok(row) = serde_json::from_slice(row.value()) else { continue };
        each(Scope { domain, authority, repository }, whole_authority, what, row)?;
    }
    Ok(())
}

/// The same by digest.
pub(super) fn each_of<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, Row>,
    mut each: impl FnMut(Digest, T) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    for entry in table.iter()? {
        let (digest, row) = entry?;
        let (Ok(digest), Ok(row)) = (digest.value().parse(), serde_json::from_slice(row.value())) else { continue };
        each(digest, row)?;
    }
    Ok(())
}
