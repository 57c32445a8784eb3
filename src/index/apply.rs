//! Facts written into the tables.

use redb::{ReadableTable as _, WriteTransaction};
use serde::Serialize;

use crate::oci::Digest;

use super::change::Change;
use super::eviction_order::{self, EvictionOrder};
use super::log::snapshot::ANY_REPOSITORY;
use super::pins::{self, PINS};
use super::row::{BlobRow, GrantRow, TagRow};
use super::schema::{
    self, BLOB_GRANTS, BLOBS, CHILDREN, Key, LAST, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, REFERRERS, STORED_BYTES,
    SUMS, TAGS,
};
use super::{IndexError, Scope, unrecoverable};

/// Lists kept of one repository: pages of tags, and referrers by subject.
const MAX_LISTS: usize = 200;

impl Change {
    pub(super) fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        match self {
            Self::PutTag { scope, tag, row } => {
                to.open_table(TAGS)?.insert(Key::tag(scope, tag).as_tuple(), json(row)?.as_slice())?;
            }
            Self::StampTag { scope, tag, checked, hold_until } => {
                let mut tags = to.open_table(TAGS)?;
                let key = Key::tag(scope, tag);
                let row = tags.get(key.as_tuple())?.and_then(|row| serde_json::from_slice::<TagRow>(row.value()).ok());
                if let Some(row) = row {
                    let row = TagRow { checked: *checked, hold_until: *hold_until, ..row };
                    tags.insert(key.as_tuple(), json(&row)?.as_slice())?;
                }
            }
            Self::PutManifestType { domain, authority, digest, media_type } => {
                let name = digest.to_string();
                let key = (*domain, authority.as_str(), name.as_str(), "");
                to.open_table(MANIFEST_TYPES)?.insert(key, json(media_type)?.as_slice())?;
            }
            Self::PutList { scope, list, row } => {
                let mut lists = to.open_table(LISTS)?;
                lists.insert(Key::list(scope, list).as_tuple(), json(row)?.as_slice())?;
                // Clients choose cursors and subjects: one repository's lists must not fill the disk.
                let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
                let first = (scope.domain, authority, repository, "");
                let last = (scope.domain, authority, repository, LAST);
                let mut surplus = Vec::new();
                for (nth, entry) in lists.range(first..=last)?.enumerate() {
                    let name = entry?.0.value().3.to_owned();
                    // The first tag list in order is the complete one, which is worth most.
                    if nth >= MAX_LISTS && name != *list {
                        surplus.push(name);
                    }
                }
                for name in &surplus {
                    lists.remove(Key::list(scope, name).as_tuple())?;
                }
            }
            Self::GrantManifest { scope, whole_authority, digest, media_type, day } => {
                let name = digest.to_string();
                let mut types = to.open_table(MANIFEST_TYPES)?;
                let known = types.get(schema::type_key(scope, &name))?.is_some();
                if !known {
                    types.insert(schema::type_key(scope, &name), json(media_type)?.as_slice())?;
                }
                let mut grants = to.open_table(MANIFEST_GRANTS)?;
                let key = Key::digest(scope, *digest, *whole_authority);
                let repositories = if *whole_authority && scope.repository.as_str() != ANY_REPOSITORY {
                    let before = grants.get(key.as_tuple())?;
                    GrantRow::with(before.and_then(|row| serde_json::from_slice(row.value()).ok()), &scope.repository)
                } else {
                    None
                };
                let row = GrantRow { media_type: Some(media_type.clone()), used_day: *day, repositories };
                grants.insert(key.as_tuple(), json(&row)?.as_slice())?;
            }
            Self::GrantBlob { scope, whole_authority, digest, day } => {
                let row = GrantRow { media_type: None, used_day: *day, repositories: None };
                let key = Key::digest(scope, *digest, *whole_authority);
                to.open_table(BLOB_GRANTS)?.insert(key.as_tuple(), json(&row)?.as_slice())?;
            }
            Self::DropLists { scope, family } => drop_lists(to, scope, family)?,
            Self::DropGrants { scope } => {
                drop_lists(to, scope, "")?;
                for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
                    let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
                    let first = (scope.domain, authority, repository, "");
                    let last = (scope.domain, authority, repository, LAST);
                    to.open_table(grants)?.retain_in(first..=last, |_, _| false)?;
                }
            }
            Self::DropPublicGrants { scope, digests } => {
                for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
                    let mut grants = to.open_table(grants)?;
                    for digest in digests {
                        grants.remove(Key::digest(scope, *digest, true).as_tuple())?;
                    }
                }
            }
            Self::DropAllGrants { authority } => {
                let is_of = |of: &str| authority.as_ref().is_none_or(|authority| authority.as_str() == of);
                to.open_table(LISTS)?.retain(|(_, of, _, _), _| !is_of(of))?;
                let blobs = to.open_table(BLOBS)?;
                let is_imported = |digest: &str| {
                    let row = blobs.get(digest).ok().flatten();
                    let row = row.and_then(|row| serde_json::from_slice::<BlobRow>(row.value()).ok());
                    row.is_some_and(|row| row.origin.is_none())
                };
                for grants in [MANIFEST_GRANTS, BLOB_GRANTS] {
                    to.open_table(grants)?.retain(|(_, of, _, digest), _| !is_of(of) || is_imported(digest))?;
                }
            }
            Self::DropExpired { table, key: (domain, authority, repository, what), before_day } => {
                let mut rows = to.open_table(table.definition())?;
                let key = (*domain, authority.as_str(), repository.as_str(), what.as_str());
                let unused = rows.get(key)?.is_some_and(|row| table.is_unused(row.value(), *before_day));
                if unused {
                    rows.remove(key)?;
                }
            }
            Self::UseGrant { scope, whole_authority, digest, table, day } => {
                let mut grants = to.open_table(table.definition())?;
                let key = Key::digest(scope, *digest, *whole_authority);
                let row: Option<GrantRow> =
                    grants.get(key.as_tuple())?.and_then(|row| serde_json::from_slice(row.value()).ok());
                if let Some(row) = row {
                    grants.insert(key.as_tuple(), json(&GrantRow { used_day: *day, ..row })?.as_slice())?;
                }
            }
            Self::PutBlob { digest, row } => {
                let mut blobs = to.open_table(BLOBS)?;
                let name = digest.to_string();
                let before = blobs.insert(name.as_str(), json(row)?.as_slice())?.map_or(0, |old| size_of(old.value()));
                add(to, row.size_bytes, before)?;
                EvictionOrder::open(to)?.put(&name, row)?;
                // There is a file again: an eviction that has not ended yet must not take its row.
                eviction_order::unmark_evicting(to, &[*digest])?;
                unrecoverable::heal(to, *digest)?;
            }
            Self::RemoveBlob { digest } => remove_blob(to, *digest)?,
            Self::RemoveMissing { digest, row } => {
                let seen = json(row)?;
                let is_same =
                    to.open_table(BLOBS)?.get(digest.to_string().as_str())?.is_some_and(|now| now.value() == seen);
                if is_same {
                    remove_blob(to, *digest)?;
                }
            }
            Self::PutUnrecoverable { digest, row } => unrecoverable::put(to, *digest, row)?,
            Self::PutChildren { manifest, children } => {
                let name = manifest.to_string();
                let pinned_at = {
                    let mut listed = to.open_table(CHILDREN)?;
                    listed.insert(name.as_str(), json(children)?.as_slice())?;
                    let mut order = EvictionOrder::open(to)?;
                    order.is_manifest(&name, children, &listed)?;
                    order.pinned_at(&name)?
                };
                if let Some(at) = pinned_at {
                    pins::reach(to, None, &name, at)?;
                }
            }
            Self::PutReferrer { scope, subject, referrer, row } => {
                let key = Key::referrer(scope, *subject, *referrer);
                to.open_table(REFERRERS)?.insert(key.as_tuple(), json(row)?.as_slice())?;
                let pinned_at = EvictionOrder::open(to)?.pinned_at(&subject.to_string())?;
                if let Some(at) = pinned_at {
                    pins::reach(to, Some(scope), &referrer.to_string(), at)?;
                }
            }
            Self::NoteAccesses(uses) => eviction_order::note(to, uses)?,
            Self::NoteObtainable { digest, scope } => {
                EvictionOrder::open(to)?.obtainable(&digest.to_string(), scope.authority.as_str())?;
            }
            Self::BeginEviction(digests) => eviction_order::mark_evicting(to, digests)?,
            Self::EndEviction { digests, gone } => {
                let marked = eviction_order::unmark_evicting(to, digests)?;
                for digest in marked.iter().filter(|_| *gone) {
                    remove_blob(to, *digest)?;
                    to.open_table(CHILDREN)?.remove(digest.to_string().as_str())?;
                }
            }
            Self::PutPin { pin, at } => {
                to.open_table(PINS)?.insert(pin.as_str(), eviction_order::seconds(*at))?;
            }
            Self::RemovePin { pin } => {
                to.open_table(PINS)?.remove(pin.as_str())?;
            }
            Self::MarkPinned { scope, manifest, at } => pins::mark(to, scope, *manifest, *at)?,
            Self::Unmark { digests, before } => {
                let mut order = EvictionOrder::open(to)?;
                for digest in digests {
                    order.unpin(&digest.to_string(), eviction_order::seconds(*before))?;
                }
            }
        }
        Ok(())
    }
}

fn remove_blob(to: &WriteTransaction, digest: Digest) -> Result<(), IndexError> {
    let name = digest.to_string();
    let before = to.open_table(BLOBS)?.remove(name.as_str())?.map_or(0, |old| size_of(old.value()));
    add(to, 0, before)?;
    EvictionOrder::open(to)?.remove(&name)
}

fn drop_lists(to: &WriteTransaction, scope: &Scope, family: &str) -> Result<(), IndexError> {
    let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
    let last = format!("{family}{LAST}");
    let range = (scope.domain, authority, repository, family)..=(scope.domain, authority, repository, last.as_str());
    Ok(to.open_table(LISTS)?.retain_in(range, |_, _| false)?)
}

fn json<T: Serialize>(row: &T) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec(row).map_err(|_unserialisable| IndexError::BadRow)
}

fn size_of(row: &[u8]) -> u64 {
    serde_json::from_slice::<BlobRow>(row).map_or(0, |row| row.size_bytes)
}

fn add(to: &WriteTransaction, plus: u64, minus: u64) -> Result<(), IndexError> {
    let mut sums = to.open_table(SUMS)?;
    let now = sums.get(STORED_BYTES)?.map_or(0, |sum| sum.value());
    sums.insert(STORED_BYTES, now.saturating_add(plus).saturating_sub(minus))?;
    Ok(())
}
