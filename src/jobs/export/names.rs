//! Names of what is exported, and what they lead to here.

use crate::index::IndexError;
use crate::mirror::{Mirror, Placement};
use crate::oci::{Digest, ShortDigest, Tag};

pub(super) fn full_name(at: &Placement, tag: Option<&Tag>, digest: Digest) -> String {
    let (authority, repository) = (&at.scope.authority, &at.scope.repository);
    tag.map_or_else(|| format!("{authority}/{repository}@{digest}"), |tag| format!("{authority}/{repository}:{tag}"))
}

/// The manifest that a shortened digest means in a repository.
pub(super) async fn resolve_short(
    mirror: &Mirror,
    at: &Placement,
    short: &ShortDigest,
) -> Result<Result<Digest, String>, IndexError> {
    let index = &mirror.cache().index;
    let mut found = Vec::new();
    for (digest, _) in index.blobs_with_prefix(short.as_str().to_owned()).await? {
        if index.manifest(&at.scope, digest, at.whole_authority).await?.grant.is_some() {
            found.push(digest);
        }
    }
    Ok(match found.as_slice() {
        [digest] => Ok(*digest),
        [] => Err("it is not held".to_owned()),
        [one, other, ..] => Err(format!("{short} may be {one} or {other}: write more of it")),
    })
}
