//! Which images are held whole, and what the others lack.

use redb::ReadTransaction;

use crate::index::facts::GrantRow;
use crate::index::schema::{BLOB_GRANTS, BLOBS, CHILDREN, Key, MANIFEST_GRANTS, OwnedKey};
use crate::index::{Index, IndexError, Scope};
use crate::oci::Digest;

use super::{get, parse};

/// Blobs looked up in one step of [`images`], about: what is found about them is in memory together.
const MAX_LOOKED_UP: usize = 10_000;

/// A digest in one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldDigest {
    pub digest: Digest,
    /// Its bytes are stored.
    pub is_stored: bool,
    /// This scope may read it.
    pub is_granted: bool,
}

/// The manifest of an image that a scope may read, and those of its blobs that it cannot serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub scope: Scope,
    pub manifest: Digest,
    pub lacking: Vec<HeldDigest>,
}

impl HeldDigest {
    pub const fn is_served(&self) -> bool {
        self.is_stored && self.is_granted
    }
}

/// Looks up blobs, or the manifests of an index, in one scope.
pub async fn held_digests(
    index: &Index,
    scope: &Scope,
    digests: Vec<Digest>,
    are_manifests: bool,
    whole_authority: bool,
) -> Result<Vec<HeldDigest>, IndexError> {
    let (scope, view) = (scope.clone(), std::sync::Arc::clone(&index.view));
    index
        .read(move |from| {
            let is_revoked = |digest| view.revocations.contains_digest(&scope, digest, whole_authority);
            digests
                .into_iter()
                .map(|digest| held(from, &scope, digest, are_manifests, whole_authority, is_revoked(digest)))
                .collect()
        })
        .await
}

/// Of these manifests, those that a scope may read, with how many of the blobs they list cannot be served, counted up to
/// two; `None` where nothing says what a manifest lists. No more than `most` blobs are looked up; what would take more is
/// left out.
pub async fn nearly_whole(
    index: &Index,
    scope: &Scope,
    manifests: Vec<Digest>,
    whole_authority: bool,
    most: usize,
) -> Result<Vec<(Digest, Option<usize>)>, IndexError> {
    let (scope, view) = (scope.clone(), std::sync::Arc::clone(&index.view));
    index
        .read(move |from| {
            let is_revoked = |digest| view.revocations.contains_digest(&scope, digest, whole_authority);
            let children = from.open_table(CHILDREN)?;
            let (mut found, mut looked_up) = (Vec::new(), 0);
            for manifest in manifests {
                if looked_up >= most {
                    break;
                }
                let itself = held(from, &scope, manifest, true, whole_authority, is_revoked(manifest))?;
                if !itself.is_granted {
                    continue;
                }
                let Some(listed) = children.get(manifest.to_string().as_str())? else {
                    found.push((manifest, None));
                    continue;
                };
                let mut lacking = 0;
                for digest in parse::<Vec<Digest>>(listed.value())? {
                    looked_up += 1;
                    let held = held(from, &scope, digest, false, whole_authority, is_revoked(digest))?;
                    lacking += usize::from(!held.is_served());
                    if lacking == 2 || looked_up >= most {
                        break;
                    }
                }
                if lacking == 2 || looked_up < most {
                    found.push((manifest, Some(lacking)));
                }
            }
            Ok(found)
        })
        .await
}

/// Up to `limit` manifests behind `after` that some scope may read, fewer where they lack many blobs, and where to go on;
/// `None` at the end. What lists
/// manifests itself is left out, as is what nobody has stored yet.
pub async fn images(
    index: &Index,
    after: Option<OwnedKey>,
    limit: usize,
) -> Result<(Vec<ImageFacts>, Option<OwnedKey>), IndexError> {
    let view = std::sync::Arc::clone(&index.view);
    index
        .read(move |from| {
            let (grants, children) = (from.open_table(MANIFEST_GRANTS)?, from.open_table(CHILDREN)?);
            let start = after.unwrap_or_default();
            let start = (start.0, start.1.as_str(), start.2.as_str(), start.3.as_str());
            let (mut found, mut looked_up) = (Vec::new(), 0);
            for (seen, entry) in grants.range(start..)?.enumerate() {
                let (key, row) = entry?;
                let (domain, authority, repository, name) = key.value();
                if seen >= limit || looked_up >= MAX_LOOKED_UP {
                    let next = (domain, authority.to_owned(), repository.to_owned(), name.to_owned());
                    return Ok((found, Some(next)));
                }
                let grant: GrantRow = parse(row.value())?;
                let whole_authority = repository.is_empty();
                let repository = if whole_authority {
                    grant.repositories.as_ref().and_then(|all| all.first()).cloned()
                } else {
                    repository.parse().ok()
                };
                let (Ok(authority), Some(repository), Ok(manifest)) = (authority.parse(), repository, name.parse())
                else {
                    continue;
                };
                let scope = Scope { domain, authority, repository };
                let is_revoked = |digest| view.revocations.contains_digest(&scope, digest, whole_authority);
                let is_index = grant.media_type.is_some_and(|media_type| media_type.is_index());
                let Some(listed) = children.get(name)?.filter(|_| !is_index && !is_revoked(manifest)) else { continue };
                let mut lacking = Vec::new();
                for digest in parse::<Vec<Digest>>(listed.value())? {
                    looked_up += 1;
                    let held = held(from, &scope, digest, false, whole_authority, is_revoked(digest))?;
                    if !held.is_served() {
                        lacking.push(held);
                    }
                }
                found.push(ImageFacts { scope, manifest, lacking });
            }
            Ok((found, None))
        })
        .await
}

fn held(
    from: &ReadTransaction,
    scope: &Scope,
    digest: Digest,
    is_manifest: bool,
    whole_authority: bool,
    is_revoked: bool,
) -> Result<HeldDigest, IndexError> {
    let table = if is_manifest { MANIFEST_GRANTS } else { BLOB_GRANTS };
    let grant: Option<GrantRow> = get(from, table, &Key::digest(scope, digest, whole_authority))?;
    let is_stored = from.open_table(BLOBS)?.get(digest.to_string().as_str())?.is_some();
    Ok(HeldDigest { digest, is_stored, is_granted: grant.is_some() && !is_revoked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::health::Health;
    use crate::index::{Change, GrantManifest, PutChildren};
    use crate::oci::{Algorithm, MediaType};

    #[tokio::test]
    async fn t125_a_step_over_images_that_lack_much_is_short_and_leaves_none_out() {
        let root = tempfile::tempdir().unwrap();
        let index = Index::open(root.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap().0;
        let scope = Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: "app".parse().unwrap() };
        let digest = |nth: usize| Digest::of(Algorithm::Sha256, &nth.to_le_bytes());
        let children: Vec<Digest> = (1000..3000).map(digest).collect();
        let mut facts = Vec::new();
        for nth in 0..30 {
            let (scope, media_type) = (scope.clone(), MediaType::parse(MediaType::OCI_MANIFEST).unwrap());
            let grant = GrantManifest { scope, whole_authority: false, digest: digest(nth), media_type, day: 1 };
            facts.push(Change::from(grant));
            facts.push(PutChildren { manifest: digest(nth), children: children.clone() }.into());
        }
        index.apply(facts).await.unwrap();
        let (mut seen, mut after) = (0, None);
        loop {
            let (found, next) = images(&index, after, 500).await.unwrap();
            let lacking: usize = found.iter().map(|image| image.lacking.len()).sum();
            assert!(lacking <= MAX_LOOKED_UP + children.len(), "{lacking} in one step");
            seen += found.len();
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, 30);
        index.close().await;
    }
}
