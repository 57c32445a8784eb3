//! Pins as facts, and what they reach: marks that keep content out of the order.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::eviction_order::{EvictionOrder, PINNED, ReadChildren as _, seconds};
use super::log::snapshot::ANY_REPOSITORY;
use super::row::GrantRow;
use super::schema::{CHILDREN, LAST, MANIFEST_GRANTS, REFERRERS, TAGS};
use super::{Index, IndexError, OwnedKey, Scope};
use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, PinPattern};

/// Pins made by command: pattern → when, in seconds.
pub(super) const PINS: TableDefinition<'_, &str, u64> = TableDefinition::new("pins");

/// What a pin may name: a tag and the manifest it points to, or a manifest that was served in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRoot {
    pub scope: Scope,
    pub tag: Option<String>,
    pub manifest: Digest,
    /// It may have been served in any repository of its authority: the one in `scope` stands for all.
    pub anywhere: bool,
}

/// Where roots are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinRoots {
    Tags,
    Manifests,
}

/// Marks a manifest, what it lists at any depth, and what refers to it.
pub(super) fn mark(to: &WriteTransaction, scope: &Scope, root: Digest, at: Timestamp) -> Result<(), IndexError> {
    reach(to, Some(scope), &root.to_string(), seconds(at))
}

/// The same for what came to a pinned manifest later.
pub(super) fn reach(to: &WriteTransaction, scope: Option<&Scope>, root: &str, at: u64) -> Result<(), IndexError> {
    let listed = to.open_table(CHILDREN)?;
    let referrers = to.open_table(REFERRERS)?;
    let mut order = EvictionOrder::open(to)?;
    let mut left = vec![root.to_owned()];
    let mut is_root = true;
    while let Some(name) = left.pop() {
        // A mark of this very time has its reach marked as well, and manifests may refer to each other in a circle: only the
        // first look at the root goes on from there, whatever lists it again.
        if !order.pin(&name, at)? && !std::mem::take(&mut is_root) {
            continue;
        }
        is_root = false;
        left.extend(listed.children(&name)?.iter().map(ToString::to_string));
        if let Some(scope) = scope {
            let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
            let (first, last) = (format!("{name} "), format!("{name} {LAST}"));
            let range = (scope.domain, authority, repository, first.as_str())
                ..=(scope.domain, authority, repository, last.as_str());
            for entry in referrers.range(range)? {
                left.extend(entry?.0.value().3.split_once(' ').map(|(_, referrer)| referrer.to_owned()));
            }
        }
    }
    Ok(())
}

impl Index {
    /// Pins made by command.
    pub async fn pins(&self) -> Result<Vec<PinPattern>, IndexError> {
        self.read(|from| {
            let mut pins = Vec::new();
            for entry in from.open_table(PINS)?.iter()? {
                // One that an older or newer version wrote and this one cannot read pins nothing.
                pins.extend(entry?.0.value().parse().ok());
            }
            Ok(pins)
        })
        .await
    }

    /// Up to `limit` things that a pin may name, behind `after`, and where to go on; `None` at the end.
    pub async fn pin_roots(
        &self,
        of: PinRoots,
        after: Option<OwnedKey>,
        limit: usize,
    ) -> Result<(Vec<PinRoot>, Option<OwnedKey>), IndexError> {
        self.read(move |from| {
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
                        let row: Option<super::TagRow> = serde_json::from_slice(row.value()).ok();
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
        })
        .await
    }

    /// Up to `limit` marks behind `after` that are older than `before`, and where to go on.
    pub async fn stale_marks(
        &self,
        after: Option<String>,
        before: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Digest>, Option<String>), IndexError> {
        self.read(move |from| {
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
        })
        .await
    }
}
