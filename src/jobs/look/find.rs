//! What a name that people type means here.

use std::sync::Arc;

use crate::index::{TagRow, digests_beginning};
use crate::jobs::{Refused, RefusedCode};
use crate::mirror::{Holdings, Mirror};
use crate::oci::{Authority, Digest, ImageName, Repository, ShortDigest, Tag};

/// An image that is known by its name.
pub struct Found {
    pub holdings: Holdings,
    /// The tag that was asked for, and what is known of it.
    pub tag: Option<(Tag, TagRow)>,
    pub digest: Digest,
}

/// The repository, if its registry is configured.
pub fn holdings(mirror: &Arc<Mirror>, authority: &Authority, repository: &Repository) -> Result<Holdings, Refused> {
    Holdings::of(mirror, authority, repository).map_err(|err| Refused::new(RefusedCode::UnknownRegistry, err))
}

/// The manifest that a name leads to, if it is known.
pub async fn find(mirror: &Arc<Mirror>, name: &ImageName) -> Result<Found, Refused> {
    let mut holdings = holdings(mirror, &name.authority, &name.repository)?;
    if let Some(short) = &name.digest {
        let digest = full_digest(mirror, Some(&holdings), short).await?;
        return Ok(Found { holdings, tag: None, digest });
    }
    let mut tag = name.tag_or_latest();
    let mut row = holdings.tag(&tag).await?;
    if let Some(target) = row.as_ref().and_then(|row| row.alias.clone()) {
        holdings = self::holdings(mirror, &target.authority, &target.repository)?;
        tag = target.tag;
        row = holdings.tag(&tag).await?;
    }
    let row = row.ok_or_else(|| Refused::not_found(format!("{name} is not held: nobody has pulled this tag")))?;
    let digest = row
        .digest
        .ok_or_else(|| Refused::not_found(format!("{name} is not held: its registry said that the tag is gone")))?;
    Ok(Found { holdings, tag: Some((tag, row)), digest })
}

/// The digest that a shortened one stands for: of a repository, else of all that is stored.
pub async fn full_digest(mirror: &Mirror, within: Option<&Holdings>, short: &ShortDigest) -> Result<Digest, Refused> {
    if let Some(digest) = short.whole() {
        return Ok(digest);
    }
    let scope = within.map(|holdings| (holdings.scope().clone(), holdings.whole_authority()));
    let found = digests_beginning(&mirror.cache().index, short.as_str().to_owned(), scope, 2).await?;
    match found.as_slice() {
        [digest] => Ok(*digest),
        [first, second, ..] => Err(Refused::new(
            RefusedCode::Ambiguous,
            format!("{short} fits more than one, {first} and {second} among them"),
        )),
        [] => Err(Refused::not_found(format!("nothing that is held has a digest that begins with {short}"))),
    }
}
