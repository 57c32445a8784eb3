//! Manifests: their types, what they list, and what they refer to.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind};
use crate::index::eviction_order::{self, EvictionOrder};
use crate::index::generation::Generations;
use crate::index::schema::{self, CHILDREN, Key, MANIFEST_TYPES, REFERRED, REFERRERS};
use crate::index::{IndexError, Scope, is_default};
use crate::oci::{Authority, Digest, MediaType};

/// The type of a manifest in this authority, in whatever scope it may be read. Snapshots keep it of the first grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutManifestType {
    #[serde(default, skip_serializing_if = "is_default")]
    pub domain: u32,
    pub authority: Authority,
    pub digest: Digest,
    pub media_type: MediaType,
}

impl Kind for PutManifestType {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let name = self.digest.to_string();
        let key = (self.domain, self.authority.as_str(), name.as_str(), "");
        to.open_table(MANIFEST_TYPES)?.insert(key, schema::json(&self.media_type)?.as_slice())?;
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let name = self.digest.to_string();
        let key = (self.domain, self.authority.as_str(), name.as_str(), "");
        Ok(from.open_table(MANIFEST_TYPES)?.get(key)?.is_none())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutChildren {
    pub manifest: Digest,
    pub children: Vec<Digest>,
}

impl Kind for PutChildren {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let name = self.manifest.to_string();
        let pinned_at = {
            let mut listed = to.open_table(CHILDREN)?;
            listed.insert(name.as_str(), schema::json(&self.children)?.as_slice())?;
            let mut order = EvictionOrder::open(to)?;
            order.is_manifest(&name, &self.children, &listed)?;
            order.pinned_at(&name)?
        };
        pinned_at.map_or(Ok(()), |at| eviction_order::reach(to, None, &name, at))
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    /// No manifest can name its own digest: such a fact was made up.
    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let is_possible = !self.children.contains(&self.manifest);
        Ok(is_possible && from.open_table(CHILDREN)?.get(self.manifest.to_string().as_str())?.is_none())
    }
}

/// A manifest that names another as its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferrerRow {
    /// The descriptor for a referrers answer, as JSON.
    pub descriptor: serde_json::Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutReferrer {
    pub scope: Scope,
    pub subject: Digest,
    pub referrer: Digest,
    pub row: ReferrerRow,
}

impl Kind for PutReferrer {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { scope, subject, referrer, row } = self;
        let key = Key::referrer(scope, *subject, *referrer);
        to.open_table(REFERRERS)?.insert(key.as_tuple(), schema::json(row)?.as_slice())?;
        let (referrer_name, subject_name) = (referrer.to_string(), subject.to_string());
        let place = (scope.domain, scope.authority.as_str(), scope.repository.as_str());
        let referred = (referrer_name.as_str(), place.0, place.1, place.2, subject_name.as_str());
        to.open_table(REFERRED)?.insert(referred, ())?;
        let pinned_at = EvictionOrder::open(to)?.pinned_at(&subject.to_string())?;
        pinned_at.map_or(Ok(()), |at| eviction_order::reach(to, Some(scope), &referrer.to_string(), at))
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let key = Key::referrer(&self.scope, self.subject, self.referrer);
        Ok(from.open_table(REFERRERS)?.get(key.as_tuple())?.is_none())
    }

    fn new_row(&self) -> Option<(&Authority, u64)> {
        let descriptor = self.row.descriptor.to_string().len();
        Some((&self.scope.authority, 2 * self.scope.row_bytes(160) + descriptor as u64))
    }
}

/// Drops what is known of a manifest as a referrer.
pub(super) fn drop_referrer(to: &WriteTransaction, referrer: &str) -> Result<(), IndexError> {
    let (mut rows, mut by_name) = (to.open_table(REFERRERS)?, to.open_table(REFERRED)?);
    let mut subjects = Vec::new();
    for entry in by_name.range((referrer, 0, "", "", "")..)? {
        let (key, _) = entry?;
        let (of, domain, authority, repository, subject) = key.value();
        if of != referrer {
            break;
        }
        subjects.push((domain, authority.to_owned(), repository.to_owned(), subject.to_owned()));
    }
    for (domain, authority, repository, subject) in &subjects {
        let (authority, repository) = (authority.as_str(), repository.as_str());
        by_name.remove((referrer, *domain, authority, repository, subject.as_str()))?;
        rows.remove((*domain, authority, repository, format!("{subject} {referrer}").as_str()))?;
    }
    Ok(())
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    for entry in from.open_table(MANIFEST_TYPES)?.iter()? {
        let (key, row) = entry?;
        let (domain, authority, digest, _) = key.value();
        let (Ok(authority), Ok(digest)) = (authority.parse(), digest.parse()) else { continue };
        let Ok(media_type) = serde_json::from_slice(row.value()) else { continue };
        each(Fact::PutManifestType(PutManifestType { domain, authority, digest, media_type }))?;
    }
    schema::each_of(&from.open_table(CHILDREN)?, |manifest, children| {
        each(Fact::PutChildren(PutChildren { manifest, children }))
    })?;
    schema::each_scoped(from, REFERRERS, |scope, _, both, row| {
        let both = both.split_once(' ').and_then(|(subject, referrer)| subject.parse().ok().zip(referrer.parse().ok()));
        let Some((subject, referrer)) = both else { return Ok(()) };
        each(Fact::PutReferrer(PutReferrer { scope, subject, referrer, row }))
    })
}
