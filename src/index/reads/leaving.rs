//! What goes if manifests are removed from a repository: what only they need.

use std::collections::HashSet;

use redb::{ReadTransaction, ReadableTable as _};

use crate::index::eviction_order::ReadChildren as _;
use crate::index::facts::{BlobRow, GrantRow, TagRow};
use crate::index::schema::{
    self, BLOB_GRANTS, BLOBS, CHILDREN, LAST, MANIFEST_GRANTS, PINNED, RECENCY, REFERRERS, TAGS, range,
};
use crate::index::{Index, IndexError, Scope};
use crate::oci::{Digest, Tag};

/// What goes.
#[derive(Debug, Clone, Default)]
pub struct Leaving {
    /// Tags that point to a manifest that goes.
    pub tags: Vec<Tag>,
    /// What may not be read in this repository any more.
    pub grants: Vec<Digest>,
    /// Stored bytes that no repository may read any more.
    pub content: Vec<LeavingContent>,
}

/// Stored bytes that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingContent {
    pub digest: Digest,
    pub size_bytes: u64,
    /// The registry that it can come from again; empty if none is known.
    pub authority: String,
    pub is_pinned: bool,
}

/// What goes with these manifests, or, without any, with the whole repository. Tags in `without` do not keep what they point to.
///
/// It reads the keys of all grants once: about half a second for a million of them.
pub async fn leaving(
    index: &Index,
    scope: &Scope,
    whole_authority: bool,
    manifests: Option<Vec<Digest>>,
    without: Vec<Tag>,
) -> Result<Leaving, IndexError> {
    let scope = scope.clone();
    index
        .read(move |from| Question { from, scope: &scope, whole_authority }.answer(manifests.as_deref(), &without))
        .await
}

struct Question<'a> {
    from: &'a ReadTransaction,
    scope: &'a Scope,
    whole_authority: bool,
}

impl Question<'_> {
    fn answer(&self, manifests: Option<&[Digest]>, without: &[Tag]) -> Result<Leaving, IndexError> {
        let tags = self.tags()?;
        let granted = self.granted()?;
        let candidates = match manifests {
            Some(manifests) => self.closure(manifests.iter().copied(), true)?,
            None => self.closure(granted.iter().copied(), false)?,
        };
        let mut kept = HashSet::new();
        if let Some(manifests) = manifests {
            let pointed = tags.iter().filter(|(tag, digest)| !without.contains(tag) && !manifests.contains(digest));
            let others = granted.iter().filter(|digest| !candidates.contains(*digest));
            kept = self.closure(pointed.map(|(_, digest)| *digest).chain(others.copied()), false)?;
        }
        let going: HashSet<Digest> = candidates.difference(&kept).copied().collect();
        let tags = tags.into_iter().filter(|(_, digest)| going.contains(digest)).map(|(tag, _)| tag).collect();
        let mut held = self.held_elsewhere(&going)?;
        let foreign = if self.whole_authority { self.of_others(&going)? } else { HashSet::new() };
        let mut grants: Vec<Digest> =
            going.iter().filter(|digest| !foreign.contains(*digest) || held.contains(*digest)).copied().collect();
        held.extend(foreign);
        let mut content = Vec::new();
        for digest in going.difference(&held) {
            content.extend(self.content(*digest)?);
        }
        content.sort_by_key(|content| content.digest);
        grants.sort();
        Ok(Leaving { tags, grants, content })
    }

    fn tags(&self) -> Result<Vec<(Tag, Digest)>, IndexError> {
        let mut tags = Vec::new();
        for entry in self.from.open_table(TAGS)?.range(range(self.scope, "", LAST))? {
            let (key, row) = entry?;
            let row: Option<TagRow> = serde_json::from_slice(row.value()).ok();
            if let (Ok(tag), Some(digest)) = (key.value().3.parse(), row.and_then(|row| row.digest)) {
                tags.push((tag, digest));
            }
        }
        Ok(tags)
    }

    /// The manifests that may be read in this repository.
    fn granted(&self) -> Result<HashSet<Digest>, IndexError> {
        let table = self.from.open_table(MANIFEST_GRANTS)?;
        let (domain, authority) = (self.scope.domain, self.scope.authority.as_str());
        let repository = if self.whole_authority { "" } else { self.scope.repository.as_str() };
        let mut granted = HashSet::new();
        for entry in table.range((domain, authority, repository, "")..=(domain, authority, repository, LAST))? {
            let (key, row) = entry?;
            let is_here = !self.whole_authority || {
                let row: Option<GrantRow> = serde_json::from_slice(row.value()).ok();
                row.and_then(|row| row.repositories).is_some_and(|known| known.contains(&self.scope.repository))
            };
            if is_here {
                granted.extend(key.value().3.parse::<Digest>().ok());
            }
        }
        if !self.whole_authority {
            // Blobs without a manifest are of the repository, too.
            for entry in self.from.open_table(BLOB_GRANTS)?.range(range(self.scope, "", LAST))? {
                granted.extend(entry?.0.value().3.parse::<Digest>().ok());
            }
        }
        Ok(granted)
    }

    /// These, what they list at any depth, and what refers to them.
    fn closure(
        &self,
        roots: impl Iterator<Item = Digest>,
        with_referrers: bool,
    ) -> Result<HashSet<Digest>, IndexError> {
        let (listed, referrers) = (self.from.open_table(CHILDREN)?, self.from.open_table(REFERRERS)?);
        let mut left: Vec<Digest> = roots.collect();
        let mut reached: HashSet<Digest> = left.iter().copied().collect();
        while let Some(digest) = left.pop() {
            let name = digest.to_string();
            let mut next = listed.children(&name)?;
            if with_referrers {
                let (first, last) = (format!("{name} "), format!("{name} {LAST}"));
                for entry in referrers.range(range(self.scope, &first, &last))? {
                    let (key, _) = entry?;
                    next.extend(
                        key.value().3.split_once(' ').and_then(|(_, referrer)| referrer.parse::<Digest>().ok()),
                    );
                }
            }
            left.extend(next.into_iter().filter(|digest| reached.insert(*digest)));
        }
        Ok(reached)
    }

    /// Where a grant is of the whole registry: what other manifests of it list, and those of which nobody knows who asked.
    fn of_others(&self, going: &HashSet<Digest>) -> Result<HashSet<Digest>, IndexError> {
        let (domain, authority) = (self.scope.domain, self.scope.authority.as_str());
        let mut others = Vec::new();
        let table = self.from.open_table(MANIFEST_GRANTS)?;
        for entry in table.range((domain, authority, "", "")..=(domain, authority, "", LAST))? {
            let (key, row) = entry?;
            let Ok(digest) = key.value().3.parse::<Digest>() else { continue };
            if !going.contains(&digest) || self.is_for_others(row.value()) {
                others.push(digest);
            }
        }
        self.closure(others.into_iter(), false)
    }

    /// Those that another repository may read.
    fn held_elsewhere(&self, going: &HashSet<Digest>) -> Result<HashSet<Digest>, IndexError> {
        let mut held = HashSet::new();
        let here = if self.whole_authority { "" } else { self.scope.repository.as_str() };
        for (table, are_manifests) in [(MANIFEST_GRANTS, true), (BLOB_GRANTS, false)] {
            for entry in self.from.open_table(table)?.iter()? {
                let (key, row) = entry?;
                let (domain, authority, repository, digest) = key.value();
                let is_here = domain == self.scope.domain
                    && authority == self.scope.authority.as_str()
                    && repository == here
                    && (!self.whole_authority || !are_manifests || !self.is_for_others(row.value()));
                if is_here {
                    continue;
                }
                held.extend(digest.parse::<Digest>().ok().filter(|digest| going.contains(digest)));
            }
        }
        Ok(held)
    }

    /// Whether other repositories asked for a manifest that is granted to the whole registry.
    fn is_for_others(&self, row: &[u8]) -> bool {
        let row: Option<GrantRow> = serde_json::from_slice(row).ok();
        row.and_then(|row| row.repositories)
            .is_none_or(|known| known.iter().any(|repository| *repository != self.scope.repository))
    }

    fn content(&self, digest: Digest) -> Result<Option<LeavingContent>, IndexError> {
        let name = digest.to_string();
        let row: Option<BlobRow> = schema::row_of(&self.from.open_table(BLOBS)?, digest)?;
        let Some(row) = row else { return Ok(None) };
        let recency = self.from.open_table(RECENCY)?;
        let authority = recency.get(name.as_str())?.map(|row| row.value().0.to_owned()).unwrap_or_default();
        let is_pinned = self.from.open_table(PINNED)?.get(name.as_str())?.is_some();
        Ok(Some(LeavingContent { digest, size_bytes: row.size_bytes, authority, is_pinned }))
    }
}
