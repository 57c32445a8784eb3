//! Pins, the manifests that they may name, and marks that are out of date.

use redb::{ReadTransaction, ReadableTable as _};

use super::eviction_order::seconds;
use super::facts::{GrantRow, TagRow};
use super::schema::{ANY_REPOSITORY, MANIFEST_GRANTS, OwnedKey, PINNED, PINS, TAGS};
use super::{IndexError, Scope};
use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, PinPattern};

/// A manifest that a pin may name: by a tag, or by a repository in which it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRoot {
    pub scope: Scope,
    pub tag: Option<String>,
    pub manifest: Digest,
    /// It may have been served in any repository of its authority: the one in `scope` stands for all.
    pub anywhere: bool,
}

/// The table that roots are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinRoots {
    Tags,
    Manifests,
}

/// Pins made by command.
pub(super) fn pins(from: &ReadTransaction) -> Result<Vec<PinPattern>, IndexError> {
    let mut pins = Vec::new();
    for entry in from.open_table(PINS)?.iter()? {
        // One that an older or newer version wrote and this one cannot read pins nothing.
        pins.extend(entry?.0.value().parse().ok());
    }
    Ok(pins)
}

/// Up to `limit` things that a pin may name, behind `after`, and where to go on; `None` at the end.
pub(super) fn pin_roots(
    from: &ReadTransaction,
    of: PinRoots,
    after: Option<OwnedKey>,
    limit: usize,
) -> Result<(Vec<PinRoot>, Option<OwnedKey>), IndexError> {
    let table = from.open_table(match of {
        PinRoots::Tags => TAGS,
        PinRoots::Manifests => MANIFEST_GRANTS,
    })?;
    let start = after.unwrap_or_default();
    let mut roots = Vec::new();
    for (seen, entry) in table.range((start.0, &*start.1, &*start.2, &*start.3)..)?.enumerate() {
        let (key, row) = entry?;
        let (domain, authority, repository, what) = key.value();
        if seen == limit {
            return Ok((roots, Some((domain, authority.to_owned(), repository.to_owned(), what.to_owned()))));
        }
        let (tag, manifest) = match of {
            PinRoots::Manifests => (None, what.parse().ok()),
            PinRoots::Tags => {
                let row: Option<TagRow> = serde_json::from_slice(row.value()).ok();
                (Some(what.to_owned()), row.and_then(|row| row.digest))
            }
        };
        let (Ok(authority), Some(manifest)) = (authority.parse::<Authority>(), manifest) else { continue };
        // A grant to the whole authority has its repositories in the row, if they are known.
        let known = repository.is_empty().then(|| serde_json::from_slice::<GrantRow>(row.value()).ok());
        let (repositories, anywhere) = match known {
            None => (repository.parse().into_iter().collect(), false),
            Some(row) => match row.and_then(|row| row.repositories) {
                Some(repositories) => (repositories, false),
                None => (ANY_REPOSITORY.parse().into_iter().collect(), true),
            },
        };
        roots.extend(repositories.into_iter().map(|repository| PinRoot {
            scope: Scope { domain, authority: authority.clone(), repository },
            tag: tag.clone(),
            manifest,
            anywhere,
        }));
    }
    Ok((roots, None))
}

/// Up to `limit` marks behind `after` that are older than `before`, and where to go on.
pub(super) fn stale_marks(
    from: &ReadTransaction,
    after: Option<String>,
    before: Timestamp,
    limit: usize,
) -> Result<(Vec<Digest>, Option<String>), IndexError> {
    let mut outdated = Vec::new();
    let start = after.unwrap_or_default();
    for (seen, entry) in from.open_table(PINNED)?.range(start.as_str()..)?.enumerate() {
        let (name, at) = entry?;
        if seen == limit {
            return Ok((outdated, Some(name.value().to_owned())));
        }
        if at.value() < seconds(before) {
            outdated.extend(name.value().parse::<Digest>().ok());
        }
    }
    Ok((outdated, None))
}
