//! Grants: upstream served this digest in this scope.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind};
use crate::index::generation::Generations;
use crate::index::schema::{self, ANY_REPOSITORY, Aging, BLOB_GRANTS, Key, MANIFEST_GRANTS, MANIFEST_TYPES};
use crate::index::{IndexError, Scope, is_default};
use crate::oci::{Authority, Digest, MediaType, Repository};

/// Upstream served this digest in this scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// `None` for a blob.
    #[serde(default)]
    pub media_type: Option<MediaType>,
    /// Day of its last use, by [`crate::clock::Timestamp::day`].
    pub used_day: u64,
    /// The repositories in which a manifest granted to a whole authority was asked for. `None` if they are not known, or
    /// more than [`GrantRow::MAX_REPOSITORIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<Repository>>,
}

impl GrantRow {
    pub const MAX_REPOSITORIES: usize = 8;

    /// Whether a use in this repository would be news.
    pub fn may_add(&self, repository: &Repository) -> bool {
        self.repositories.as_ref().is_some_and(|known| !known.contains(repository))
    }

    /// The repositories of a row, with one more; `None` once there are too many to tell.
    fn with(before: Option<Self>, repository: &Repository) -> Option<Vec<Repository>> {
        let mut known = before.map_or(Some(Vec::new()), |row| row.repositories)?;
        if !known.contains(repository) {
            known.push(repository.clone());
        }
        (known.len() <= Self::MAX_REPOSITORIES).then_some(known)
    }
}

/// A manifest was served in this scope. Its type is kept per authority at the first time, and never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrantManifest {
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "is_default")]
    pub whole_authority: bool,
    pub digest: Digest,
    pub media_type: MediaType,
    pub day: u64,
}

impl Kind for GrantManifest {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { scope, whole_authority, digest, media_type, day } = self;
        let name = digest.to_string();
        let mut types = to.open_table(MANIFEST_TYPES)?;
        let known = types.get(schema::type_key(scope, &name))?.is_some();
        if !known {
            types.insert(schema::type_key(scope, &name), schema::json(media_type)?.as_slice())?;
        }
        let mut grants = to.open_table(MANIFEST_GRANTS)?;
        let key = Key::digest(scope, *digest, *whole_authority);
        let repositories = if *whole_authority && scope.repository.as_str() != ANY_REPOSITORY {
            GrantRow::with(schema::row(&grants, &key)?, &scope.repository)
        } else {
            None
        };
        let row = GrantRow { media_type: Some(media_type.clone()), used_day: *day, repositories };
        grants.insert(key.as_tuple(), schema::json(&row)?.as_slice())?;
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let key = Key::digest(&self.scope, self.digest, self.whole_authority);
        let known: Option<GrantRow> = schema::row(&from.open_table(MANIFEST_GRANTS)?, &key)?;
        Ok(known.is_none_or(|known| known.used_day < self.day || known.may_add(&self.scope.repository)))
    }

    fn new_row(&self) -> Option<(&Authority, u64)> {
        // The row of its type is a second one.
        Some((&self.scope.authority, self.scope.row_bytes(512)))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrantBlob {
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "is_default")]
    pub whole_authority: bool,
    pub digest: Digest,
    pub day: u64,
}

impl Kind for GrantBlob {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let row = GrantRow { media_type: None, used_day: self.day, repositories: None };
        let key = Key::digest(&self.scope, self.digest, self.whole_authority);
        to.open_table(BLOB_GRANTS)?.insert(key.as_tuple(), schema::json(&row)?.as_slice())?;
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let key = Key::digest(&self.scope, self.digest, self.whole_authority);
        let known: Option<GrantRow> = schema::row(&from.open_table(BLOB_GRANTS)?, &key)?;
        Ok(known.is_none_or(|known| known.used_day < self.day))
    }

    fn new_row(&self) -> Option<(&Authority, u64)> {
        Some((&self.scope.authority, self.scope.row_bytes(128)))
    }
}

/// A grant was used on this day. One that has been dropped since stays so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UseGrant {
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "is_default")]
    pub whole_authority: bool,
    pub digest: Digest,
    pub table: Aging,
    pub day: u64,
}

impl Kind for UseGrant {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let mut grants = to.open_table(self.table.definition())?;
        let key = Key::digest(&self.scope, self.digest, self.whole_authority);
        let row: Option<GrantRow> = schema::row(&grants, &key)?;
        if let Some(row) = row {
            grants.insert(key.as_tuple(), schema::json(&GrantRow { used_day: self.day, ..row })?.as_slice())?;
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    schema::each_scoped(from, MANIFEST_GRANTS, |scope, whole_authority, digest, row: GrantRow| {
        let (Ok(digest), Some(media_type)) = (digest.parse::<Digest>(), row.media_type) else { return Ok(()) };
        for repository in row.repositories.unwrap_or_else(|| vec![scope.repository.clone()]) {
            let scope = Scope { repository, ..scope.clone() };
            let (media_type, day) = (media_type.clone(), row.used_day);
            each(Fact::GrantManifest(GrantManifest { scope, whole_authority, digest, media_type, day }))?;
        }
        Ok(())
    })?;
    schema::each_scoped(from, BLOB_GRANTS, |scope, whole_authority, digest, row: GrantRow| {
        let Ok(digest) = digest.parse() else { return Ok(()) };
        each(Fact::GrantBlob(GrantBlob { scope, whole_authority, digest, day: row.used_day }))
    })
}
