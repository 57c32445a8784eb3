mod blocks;
mod gone;
mod granted;
mod images;
mod leaving;
mod look;
mod naming;
mod pulls;
mod surplus;
mod usage;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde::de::DeserializeOwned;

use crate::oci::{Digest, MediaType, Tag};

use crate::index::eviction_order::{self, Access, MAX_REACHED, ReadChildren as _};
use crate::index::facts::{
    self, BlobRow, DropExpired, GrantRow, KeptList, ListRow, ReferrerRow, TagRow, Unrecoverable, is_unused,
};
use crate::index::schema::{
    self, Aging, BLOB_GRANTS, BLOBS, CHILDREN, Key, LAST, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, OwnedKey, PINNED,
    REFERRERS, STORED_BYTES, SUMS, ScopedKey, TAGS, UNRECOVERABLE,
};
use crate::index::{Index, IndexError, Scope};

pub use blocks::{BlockReach, block_reach, blocks};
pub use gone::gone_referrers;
pub use granted::ungranted;
pub use images::{HeldDigest, ImageFacts, held_digests, images, nearly_whole};
pub use leaving::{Leaving, LeavingContent, leaving};
pub use look::{
    ContentFacts, aliases, aliases_in, content, digests_beginning, stored_blobs, tags_behind, tags_pointing_to,
};
pub use naming::is_named;
pub use pulls::{PullQuestion, pulls};
pub use surplus::{drop_rows, measure_rows};
pub use usage::{AuthorityUsage, RepositoryUsage, Sums, Usage, usage};

/// The facts about a manifest in one scope.
#[derive(Debug, Clone)]
pub struct ManifestFacts {
    /// This scope may read it.
    pub grant: Option<GrantRow>,
    /// Its type, where any scope of this authority was served it.
    pub media_type: Option<MediaType>,
    pub blob: Option<BlobRow>,
}

/// The facts about a tag, and about the manifest it points to.
#[derive(Debug, Clone)]
pub struct TagFacts {
    pub row: TagRow,
    pub manifest: Option<ManifestFacts>,
}

/// How many facts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub blobs: u64,
    /// Sum of their sizes.
    pub stored_bytes: u64,
    pub tags: u64,
    pub lists: u64,
    pub manifest_grants: u64,
    pub blob_grants: u64,
}

impl Index {
    pub async fn tag(&self, scope: &Scope, tag: &Tag, whole_authority: bool) -> Result<Option<TagFacts>, IndexError> {
        let is_any_revoked = !self.view.revocations.is_empty();
        let (of, tag) = (scope.clone(), tag.clone());
        let mut found = self
            .read(move |from| {
                let Some(row) = get::<TagRow>(from, TAGS, &Key::tag(&of, &tag))? else { return Ok(None) };
                let manifest = row.digest.map(|digest| held(from, &of, digest, whole_authority)).transpose()?;
                Ok(Some(TagFacts { row, manifest }))
            })
            .await?;
        if let Some(TagFacts { row: TagRow { digest: Some(digest), .. }, manifest }) =
            found.as_mut().filter(|_| is_any_revoked)
        {
            // Which digest to ask for is known only now.
            *manifest = Some(self.manifest(scope, *digest, whole_authority).await?);
        }
        Ok(found)
    }

    pub async fn manifest(
        &self,
        scope: &Scope,
        digest: Digest,
        whole_authority: bool,
    ) -> Result<ManifestFacts, IndexError> {
        let is_revoked = self.view.revocations.contains_digest(scope, digest, whole_authority);
        let scope = scope.clone();
        self.read(move |from| {
            let held = held(from, &scope, digest, whole_authority)?;
            Ok(ManifestFacts { grant: held.grant.filter(|_| !is_revoked), ..held })
        })
        .await
    }

    /// The blob's record, and this scope's grant to read it.
    pub async fn blob(
        &self,
        scope: &Scope,
        digest: Digest,
        whole_authority: bool,
    ) -> Result<(Option<BlobRow>, Option<GrantRow>), IndexError> {
        let is_revoked = self.view.revocations.contains_digest(scope, digest, whole_authority);
        let scope = scope.clone();
        self.read(move |from| {
            let grant: Option<GrantRow> = get(from, BLOB_GRANTS, &Key::digest(&scope, digest, whole_authority))?;
            Ok((blob(from, digest)?, grant.filter(|_| !is_revoked)))
        })
        .await
    }

    /// The blob's record, in whatever scope.
    pub async fn blob_row(&self, digest: Digest) -> Result<Option<BlobRow>, IndexError> {
        self.read(move |from| blob(from, digest)).await
    }

    /// The same, where a file without a record is recorded or removed. Fails while the index may lack records that the log
    /// has: none of them is taken for missing.
    pub async fn current_blob_row(&self, digest: Digest) -> Result<Option<BlobRow>, IndexError> {
        let was_behind = self.is_behind();
        let row = self.blob_row(digest).await?;
        if row.is_none() && (was_behind || self.is_behind()) { Err(IndexError::Unavailable) } else { Ok(row) }
    }

    /// Recorded blobs whose digests begin with `prefix`, as in `sha256:0a`.
    pub async fn blobs_with_prefix(&self, prefix: String) -> Result<Vec<(Digest, BlobRow)>, IndexError> {
        self.read(move |from| {
            let last = format!("{prefix}{LAST}");
            let mut found = Vec::new();
            for entry in from.open_table(BLOBS)?.range(prefix.as_str()..=last.as_str())? {
                let (digest, row) = entry?;
                let digest = digest.value().parse().map_err(|_not_one| IndexError::BadRow)?;
                found.push((digest, parse(row.value())?));
            }
            Ok(found)
        })
        .await
    }

    pub async fn list(&self, scope: &Scope, list: &str) -> Result<Option<ListRow>, IndexError> {
        if self.view.revocations.contains(scope) {
            return Ok(None);
        }
        let (key, contents) = (Key::list(scope, list), self.contents.clone());
        self.read(move |from| facts::list(from, &key, &contents)).await
    }

    /// The queries of next pages that upstream's own links named, in the lists of a repository whose names begin with `family`.
    pub async fn next_pages(&self, scope: &Scope, family: &'static str) -> Result<Vec<String>, IndexError> {
        let scope = scope.clone();
        self.read(move |from| {
            let last = format!("{family}{LAST}");
            let mut queries = Vec::new();
            for entry in from.open_table(LISTS)?.range(schema::range(&scope, family, &last))? {
                queries.extend(parse::<KeptList>(entry?.1.value())?.next);
            }
            Ok(queries)
        })
        .await
    }

    /// Every tag of a repository that points to what this scope may read, in ASCII order.
    pub async fn tags_of(&self, scope: &Scope, whole_authority: bool) -> Result<Vec<String>, IndexError> {
        if self.view.revocations.contains(scope) {
            return Ok(Vec::new());
        }
        let (scope, view) = (scope.clone(), Arc::clone(&self.view));
        self.read(move |from| {
            let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
            let range = (scope.domain, authority, repository, "")..=(scope.domain, authority, repository, LAST);
            let mut tags = Vec::new();
            for entry in from.open_table(TAGS)?.range(range)? {
                let (key, row) = entry?;
                let Some(digest) = parse::<TagRow>(row.value())?.digest else { continue };
                let grant = Key::digest(&scope, digest, whole_authority);
                let is_revoked = view.revocations.contains_digest(&scope, digest, whole_authority);
                if !is_revoked && get::<GrantRow>(from, MANIFEST_GRANTS, &grant)?.is_some() {
                    tags.push(key.value().3.to_owned());
                }
            }
            Ok(tags)
        })
        .await
    }

    /// Whether any manifest of a repository is known: by a tag, or because it may be read there.
    pub async fn knows_manifests_of(&self, scope: &Scope) -> Result<bool, IndexError> {
        let scope = scope.clone();
        self.read(move |from| {
            let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
            let range = || (scope.domain, authority, repository, "")..=(scope.domain, authority, repository, LAST);
            if from.open_table(MANIFEST_GRANTS)?.range(range())?.next().transpose()?.is_some() {
                return Ok(true);
            }
            for entry in from.open_table(TAGS)?.range(range())? {
                if parse::<TagRow>(entry?.1.value())?.digest.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Held manifests that name `subject`, in this repository.
    pub async fn referrers_of(&self, scope: &Scope, subject: Digest) -> Result<Vec<ReferrerRow>, IndexError> {
        let scope = scope.clone();
        self.read(move |from| {
            let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
            let (first, last) = (format!("{subject} "), format!("{subject} {LAST}"));
            let range = (scope.domain, authority, repository, first.as_str())
                ..=(scope.domain, authority, repository, last.as_str());
            from.open_table(REFERRERS)?.range(range)?.map(|entry| parse(entry?.1.value())).collect()
        })
        .await
    }

    /// Whether everything that a manifest lists is stored, and this scope may read it.
    pub async fn is_whole(&self, scope: &Scope, manifest: Digest, whole_authority: bool) -> Result<bool, IndexError> {
        if self.view.revocations.contains(scope) {
            return Ok(false);
        }
        let (scope, view) = (scope.clone(), Arc::clone(&self.view));
        self.read(move |from| {
            let children = from.open_table(CHILDREN)?;
            let name = manifest.to_string();
            let Some(row) = children.get(name.as_str())? else { return Ok(false) };
            for child in parse::<Vec<Digest>>(row.value())? {
                let granted: Option<GrantRow> = get(from, BLOB_GRANTS, &Key::digest(&scope, child, whole_authority))?;
                let is_revoked = view.revocations.contains_digest(&scope, child, whole_authority);
                if is_revoked || granted.is_none() || blob(from, child)?.is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    /// A manifest and what it lists at any depth, as far as that is known; at most [`MAX_REACHED`].
    pub async fn reached(&self, manifest: Digest) -> Result<Vec<Digest>, IndexError> {
        self.read(move |from| {
            let listed = from.open_table(CHILDREN)?;
            let (mut reached, mut nth) = (vec![manifest], 0);
            let mut seen = HashSet::from([manifest]);
            while let Some(next) = reached.get(nth).filter(|_| reached.len() < MAX_REACHED) {
                let children = listed.children(&next.to_string())?;
                reached.extend(children.into_iter().filter(|child| seen.insert(*child)));
                nth += 1;
            }
            reached.truncate(MAX_REACHED);
            Ok(reached)
        })
        .await
    }

    /// A use, with those of all that it lists, as they are to be noted.
    pub async fn reached_by(&self, used: Access) -> Result<Vec<Access>, IndexError> {
        self.read(move |from| eviction_order::reached_by(from, used)).await
    }

    /// Bytes of the files of the index and of its log.
    pub async fn bytes_on_disk(&self) -> Result<u64, IndexError> {
        let files = self.view.database.files();
        let sizes = tokio::task::spawn_blocking(move || {
            let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
            let log = files.1.read_dir().into_iter().flatten().flatten().map(|file| size(&file.path()));
            size(&files.0) + log.sum::<u64>()
        });
        sizes.await.map_err(|_ended| IndexError::Closed)
    }

    /// How many facts of each kind there are. Costs the same however many.
    pub async fn counts(&self) -> Result<Counts, IndexError> {
        self.read(|from| {
            Ok(Counts {
                blobs: from.open_table(BLOBS)?.len()?,
                stored_bytes: from.open_table(SUMS)?.get(STORED_BYTES)?.map_or(0, |sum| sum.value()),
                tags: from.open_table(TAGS)?.len()?,
                lists: from.open_table(LISTS)?.len()?,
                manifest_grants: from.open_table(MANIFEST_GRANTS)?.len()?,
                blob_grants: from.open_table(BLOB_GRANTS)?.len()?,
            })
        })
        .await
    }

    /// Blobs that were found wrong and cannot be fetched again.
    pub async fn unrecoverable(&self) -> Result<Vec<(Digest, Unrecoverable)>, IndexError> {
        self.read(|from| {
            let table = match from.open_table(UNRECOVERABLE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (digest, row) = entry?;
                let digest = digest.value().parse().map_err(|_not_one| IndexError::BadRow)?;
                found.push((digest, parse(row.value())?));
            }
            Ok(found)
        })
        .await
    }

    /// Looks at up to `limit` rows behind `after`: those that were not used since `before_day` and that nothing pins, and
    /// where to go on; `None` at the end.
    pub async fn expired(
        &self,
        table: Aging,
        after: Option<OwnedKey>,
        before_day: u64,
        limit: usize,
    ) -> Result<(Vec<DropExpired>, Option<OwnedKey>), IndexError> {
        self.read(move |from| {
            let rows = from.open_table(table.definition())?;
            let pinned = from.open_table(PINNED)?;
            let start = after.unwrap_or_default();
            let start = (start.0, start.1.as_str(), start.2.as_str(), start.3.as_str());
            let mut expired = Vec::new();
            for (seen, entry) in rows.range(start..)?.enumerate() {
                let (key, row) = entry?;
                let (domain, authority, repository, what) = key.value();
                let key = (domain, authority.to_owned(), repository.to_owned(), what.to_owned());
                if seen > limit {
                    return Ok((expired, Some(key)));
                }
                if is_unused(table, row.value(), before_day) && pinned.get(key.3.as_str())?.is_none() {
                    expired.push(DropExpired { table, key, before_day });
                }
            }
            Ok((expired, None))
        })
        .await
    }
}

fn held(
    from: &ReadTransaction,
    scope: &Scope,
    digest: Digest,
    whole_authority: bool,
) -> Result<ManifestFacts, IndexError> {
    let name = digest.to_string();
    let types = from.open_table(MANIFEST_TYPES)?;
    let media_type = types.get(schema::type_key(scope, &name))?.map(|row| parse(row.value())).transpose()?;
    let grant = get(from, MANIFEST_GRANTS, &Key::digest(scope, digest, whole_authority))?;
    Ok(ManifestFacts { grant, media_type, blob: blob(from, digest)? })
}

fn blob(from: &ReadTransaction, digest: Digest) -> Result<Option<BlobRow>, IndexError> {
    from.open_table(BLOBS)?.get(digest.to_string().as_str())?.map(|row| parse(row.value())).transpose()
}

fn get<T: DeserializeOwned>(
    from: &ReadTransaction,
    table: TableDefinition<'_, ScopedKey, &'static [u8]>,
    key: &Key,
) -> Result<Option<T>, IndexError> {
    from.open_table(table)?.get(key.as_tuple())?.map(|row| parse(row.value())).transpose()
}

fn parse<T: DeserializeOwned>(row: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(row).map_err(|_not_the_row| IndexError::BadRow)
}
