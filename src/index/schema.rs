//! Tables and their keys. Rows are JSON, so that a field can be added without a migration.

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::pins::PINS;
use super::{IndexError, Scope, eviction_order};
use crate::oci::{Digest, Tag};

/// (domain, authority, repository, what).
pub(super) type ScopedKey = (u32, &'static str, &'static str, &'static str);
type Row = &'static [u8];

/// … tag → [`super::TagRow`].
pub(super) const TAGS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("tags");
/// … list and page → [`super::ListRow`].
pub(super) const LISTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("lists");
/// … digest → [`super::GrantRow`] of a manifest. The repository is empty where one grant opens the whole authority.
pub(super) const MANIFEST_GRANTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("manifest_grants");
/// … digest → [`super::GrantRow`] of a blob.
pub(super) const BLOB_GRANTS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("blob_grants");
/// (domain, authority, digest, "") → media type at the first verified fetch.
pub(super) const MANIFEST_TYPES: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("manifest_types");
/// (domain, authority, repository, subject and referrer) → [`super::ReferrerRow`].
pub(super) const REFERRERS: TableDefinition<'_, ScopedKey, Row> = TableDefinition::new("referrers");
/// digest → [`super::BlobRow`].
pub(super) const BLOBS: TableDefinition<'_, &str, Row> = TableDefinition::new("blobs");
/// manifest's digest → digests of what it needs.
pub(super) const CHILDREN: TableDefinition<'_, &str, Row> = TableDefinition::new("children");
/// Sums, so that start-up counts nothing.
pub(super) const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums");
pub(super) const STORED_BYTES: &str = "stored_bytes";
/// How far the journals of facts were taken in (see `log`).
pub(super) const JOURNAL_NUMBER: &str = "journal_number";
pub(super) const JOURNAL_OFFSET: &str = "journal_offset";

/// Above every character that a key's last part holds.
pub(super) const LAST: &str = "\u{10ffff}";

/// Reads a row of each table.
pub(super) fn read_all(transaction: &ReadTransaction) -> Result<(), IndexError> {
    for scoped in [TAGS, LISTS, MANIFEST_GRANTS, BLOB_GRANTS, MANIFEST_TYPES, REFERRERS] {
        transaction.open_table(scoped)?.first()?;
    }
    transaction.open_table(BLOBS)?.first()?;
    transaction.open_table(CHILDREN)?.first()?;
    transaction.open_table(SUMS)?.first()?;
    transaction.open_table(PINS)?.first()?;
    eviction_order::read_all(transaction)
}

pub(super) fn create_all(transaction: &WriteTransaction) -> Result<(), IndexError> {
    for scoped in [TAGS, LISTS, MANIFEST_GRANTS, BLOB_GRANTS, MANIFEST_TYPES, REFERRERS] {
        transaction.open_table(scoped)?;
    }
    transaction.open_table(BLOBS)?;
    transaction.open_table(CHILDREN)?;
    transaction.open_table(SUMS)?;
    transaction.open_table(PINS)?;
    eviction_order::create_all(transaction)
}

/// A scope's place in a table, with an owned last part.
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
