//! Questions of operators and their jobs: about one repository, about one digest, and about what is stored.

use crate::clock::Timestamp;
use crate::index::facts::{AliasTarget, BlobRow, TagRow};
use crate::index::schema::{BLOB_GRANTS, BLOBS, LAST, MANIFEST_GRANTS, PINNED, RECENCY, TAGS, range};
use crate::index::{Index, IndexError, Scope};
use crate::oci::{Digest, Tag};

use super::{blob, parse};

/// What is recorded of stored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentFacts {
    pub row: BlobRow,
    /// When it was last used, as far as that is written down.
    pub used: Option<Timestamp>,
    /// The registry that it can come from again; empty if none is known.
    pub obtainable_from: String,
    pub is_pinned: bool,
}

/// Up to `limit` tags of a repository behind `after` that are wanted, with their rows, and whether there are more.
pub async fn tags_behind(
    index: &Index,
    scope: &Scope,
    after: String,
    limit: usize,
    is_wanted: impl Fn(&str) -> bool + Send + 'static,
) -> Result<(Vec<(Tag, TagRow)>, bool), IndexError> {
    let scope = scope.clone();
    index
        .read(move |from| {
            let mut found = Vec::new();
            for entry in from.open_table(TAGS)?.range(range(&scope, &after, LAST))? {
                let (key, row) = entry?;
                let name = key.value().3;
                if name == after || !is_wanted(name) {
                    continue;
                }
                let (Ok(tag), Ok(row)) = (name.parse(), serde_json::from_slice(row.value())) else { continue };
                if found.len() >= limit {
                    return Ok((found, true));
                }
                found.push((tag, row));
            }
            Ok((found, false))
        })
        .await
}

/// The tags of a repository that point to this manifest.
pub async fn tags_pointing_to(index: &Index, scope: &Scope, digest: Digest) -> Result<Vec<Tag>, IndexError> {
    let scope = scope.clone();
    index
        .read(move |from| {
            let mut found = Vec::new();
            for entry in from.open_table(TAGS)?.range(range(&scope, "", LAST))? {
                let (key, row) = entry?;
                let row: Option<TagRow> = serde_json::from_slice(row.value()).ok();
                if row.is_some_and(|row| row.digest == Some(digest)) {
                    found.extend(key.value().3.parse::<Tag>().ok());
                }
            }
            Ok(found)
        })
        .await
}

/// Rows that are looked at for aliases: a failed pull costs the same in any repository.
const MAX_LOOKED_AT: usize = 2000;

/// What the aliases of a repository stand for.
pub async fn aliases_in(index: &Index, scope: &Scope) -> Result<Vec<AliasTarget>, IndexError> {
    let scope = scope.clone();
    index
        .read(move |from| {
            let mut found = Vec::new();
            for entry in from.open_table(TAGS)?.range(range(&scope, "", LAST))?.take(MAX_LOOKED_AT) {
                let row: Option<TagRow> = serde_json::from_slice(entry?.1.value()).ok();
                found.extend(row.and_then(|row| row.alias));
            }
            Ok(found)
        })
        .await
}

/// The full names of all aliases.
pub async fn aliases(index: &Index) -> Result<Vec<String>, IndexError> {
    index
        .read(|from| {
            let mut found = Vec::new();
            for entry in from.open_table(TAGS)?.range((0, "", "", "")..)? {
                let (key, row) = entry?;
                let (_, authority, repository, tag) = key.value();
                let row: Option<TagRow> = serde_json::from_slice(row.value()).ok();
                found.extend(row.and_then(|row| row.alias).map(|_| format!("{authority}/{repository}:{tag}")));
            }
            Ok(found)
        })
        .await
}

/// Up to `limit` digests that begin with `prefix`, as in `sha256:0a1b`: those that are stored, or, with a scope, those that
/// may be read in it.
pub async fn digests_beginning(
    index: &Index,
    prefix: String,
    scope: Option<(Scope, bool)>,
    limit: usize,
) -> Result<Vec<Digest>, IndexError> {
    index
        .read(move |from| {
            let last = format!("{prefix}{LAST}");
            let mut found: Vec<Digest> = Vec::new();
            match &scope {
                None => {
                    for entry in from.open_table(BLOBS)?.range(prefix.as_str()..=last.as_str())?.take(limit) {
                        found.extend(entry?.0.value().parse::<Digest>().ok());
                    }
                }
                Some((scope, whole_authority)) => {
                    let repository = if *whole_authority { "" } else { scope.repository.as_str() };
                    let authority = scope.authority.as_str();
                    for table in [MANIFEST_GRANTS, BLOB_GRANTS] {
                        let keys = (scope.domain, authority, repository, prefix.as_str())
                            ..=(scope.domain, authority, repository, last.as_str());
                        for entry in from.open_table(table)?.range(keys)?.take(limit) {
                            found.extend(entry?.0.value().3.parse::<Digest>().ok());
                        }
                    }
                }
            }
            found.sort();
            found.dedup();
            found.truncate(limit);
            Ok(found)
        })
        .await
}

/// Up to `limit` recorded blobs behind `after`, and where to go on; `None` at the end.
pub async fn stored_blobs(
    index: &Index,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<(Digest, BlobRow)>, Option<String>), IndexError> {
    index
        .read(move |from| {
            let start = after.unwrap_or_default();
            let mut found = Vec::new();
            for (seen, entry) in from.open_table(BLOBS)?.range(start.as_str()..)?.enumerate() {
                let (name, row) = entry?;
                if seen == limit {
                    return Ok((found, Some(name.value().to_owned())));
                }
                if let Ok(digest) = name.value().parse() {
                    found.push((digest, parse(row.value())?));
                }
            }
            Ok((found, None))
        })
        .await
}

/// What is recorded of stored bytes; `None` if they are not stored.
pub async fn content(index: &Index, digest: Digest) -> Result<Option<ContentFacts>, IndexError> {
    index
        .read(move |from| {
            let Some(row) = blob(from, digest)? else { return Ok(None) };
            let name = digest.to_string();
            let recency = from.open_table(RECENCY)?;
            let order = recency.get(name.as_str())?;
            let (obtainable_from, used) = order.map_or_else(Default::default, |order| {
                let (authority, _, used, _) = order.value();
                (authority.to_owned(), Some(Timestamp::from_millis(used.saturating_mul(1000))))
            });
            let is_pinned = from.open_table(PINNED)?.get(name.as_str())?.is_some();
            Ok(Some(ContentFacts { row, used, obtainable_from, is_pinned }))
        })
        .await
}
