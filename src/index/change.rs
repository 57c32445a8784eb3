use std::borrow::Cow;

use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, MediaType, PinPattern, Tag};

use super::lost::{self, LostRow};
use super::order::{self, Order, Use};
use super::pins::{self, PINS};
use super::row::{BlobRow, GrantRow, ListRow, ReferrerRow, TagRow};
use super::table::{
    self, BLOB_GRANTS, BLOBS, CHILDREN, Key, LAST, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, REFERRERS, STORED_BYTES,
    SUMS, TAGS,
};
use super::{IndexError, Scope, is_default};

/// Lists kept of one repository: pages of tags, and referrers by subject.
const MAX_LISTS: usize = 200;

/// Tables whose rows are dropped when nobody has used them for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aging {
    ManifestGrants,
    BlobGrants,
    Lists,
}

/// A key of one of them: domain, authority, repository, what.
pub type OwnedKey = (u32, String, String, String);

impl Aging {
    pub const ALL: [Self; 3] = [Self::ManifestGrants, Self::BlobGrants, Self::Lists];

    pub(super) const fn definition(self) -> redb::TableDefinition<'static, table::ScopedKey, &'static [u8]> {
        match self {
            Self::ManifestGrants => MANIFEST_GRANTS,
            Self::BlobGrants => BLOB_GRANTS,
            Self::Lists => LISTS,
        }
    }

    /// Whether the row was last used, or checked, before that day. One that cannot be read is of no use.
    pub(super) fn is_unused(self, row: &[u8], before_day: u64) -> bool {
        let day = match self {
            Self::ManifestGrants | Self::BlobGrants => serde_json::from_slice::<GrantRow>(row).map(|row| row.used_day),
            Self::Lists => serde_json::from_slice::<ListRow>(row).map(|row| row.checked.day()),
        };
        day.map_or(true, |day| day < before_day)
    }
}

/// One fact to write down. Those of one batch become visible together.
///
/// In the journal it is an object with one key, its kind. Kinds and their fields keep their meaning for ever: a release
/// may add some, with defaults for what older ones wrote, and reads past those that it does not know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    PutTag {
        scope: Scope,
        tag: Tag,
        row: TagRow,
    },
    /// A tag was found to point where it pointed: what journals keep of such a [`Change::PutTag`].
    StampTag {
        scope: Scope,
        tag: Tag,
        checked: Timestamp,
        #[serde(default, skip_serializing_if = "is_default")]
        hold_until: Timestamp,
    },
    PutList {
        scope: Scope,
        list: String,
        row: ListRow,
    },
    /// The type of a manifest in this authority, whoever may read it: what snapshots keep of the first grant.
    PutManifestType {
        #[serde(default, skip_serializing_if = "is_default")]
        domain: u32,
        authority: Authority,
        digest: Digest,
        media_type: MediaType,
    },
    /// A manifest was served in this scope. Its type is kept per authority at the first time, and never changed.
    GrantManifest {
        scope: Scope,
        #[serde(default, skip_serializing_if = "is_default")]
        whole_authority: bool,
        digest: Digest,
        media_type: MediaType,
        day: u64,
    },
    GrantBlob {
        scope: Scope,
        #[serde(default, skip_serializing_if = "is_default")]
        whole_authority: bool,
        digest: Digest,
        day: u64,
    },
    /// Lists whose names begin with `family`: upstream no longer has them, or refuses them.
    DropLists {
        scope: Scope,
        family: String,
    },
    /// Upstream no longer lets us in: nothing may be read in this scope without asking.
    DropGrants {
        scope: Scope,
    },
    /// A key as [`super::Index::expired`] found it, to be dropped if it is still unused.
    DropExpired {
        table: Aging,
        key: OwnedKey,
        before_day: u64,
    },
    /// A grant was used on this day. One that has been dropped since stays so.
    UseGrant {
        scope: Scope,
        #[serde(default, skip_serializing_if = "is_default")]
        whole_authority: bool,
        digest: Digest,
        table: Aging,
        day: u64,
    },
    PutBlob {
        digest: Digest,
        row: BlobRow,
    },
    RemoveBlob {
        digest: Digest,
    },
    /// Its file was not there. A row that was written since stays.
    RemoveMissing {
        digest: Digest,
        row: BlobRow,
    },
    /// Its bytes were wrong, and no upstream can give them again. [`Change::PutBlob`] takes it back.
    PutLost {
        digest: Digest,
        row: LostRow,
    },
    PutChildren {
        manifest: Digest,
        children: Vec<Digest>,
    },
    PutReferrer {
        scope: Scope,
        subject: Digest,
        referrer: Digest,
        row: ReferrerRow,
    },
    /// What was used since these were last noted.
    #[serde(skip)]
    NoteUses(Vec<Use>),
    /// An authority has proven that it has these bytes: it can be asked for them again.
    #[serde(skip)]
    NoteObtainable {
        digest: Digest,
        scope: Scope,
    },
    /// The files of these are about to be removed.
    BeginEviction(Vec<Digest>),
    /// Those files are gone, or, with `gone: false`, stay after all.
    EndEviction {
        digests: Vec<Digest>,
        gone: bool,
    },
    PutPin {
        pin: PinPattern,
        at: Timestamp,
    },
    RemovePin {
        pin: PinPattern,
    },
    /// A pin names this manifest: it and all it reaches stay.
    #[serde(skip)]
    MarkPinned {
        scope: Scope,
        manifest: Digest,
        at: Timestamp,
    },
    /// Marks as [`super::Index::outdated_marks`] found them, to be dropped if they are still as old.
    #[serde(skip)]
    Unmark {
        digests: Vec<Digest>,
        before: Timestamp,
    },
}

impl Change {
    /// What the journal keeps of this change before it is applied; `None` of what may be lost with the index.
    pub(super) fn journaled(&self, before: &WriteTransaction) -> Result<Option<Cow<'_, Self>>, IndexError> {
        match self {
            Self::PutTag { scope, tag, row } => {
                let tags = before.open_table(TAGS)?;
                let old = tags.get(Key::tag(scope, tag).as_tuple())?;
                let old = old.and_then(|old| serde_json::from_slice::<TagRow>(old.value()).ok());
                // A busy tag is stamped every minute, and its history may be long.
                if old.is_some_and(|old| old.digest == row.digest && old.history == row.history) {
                    let (scope, tag) = (scope.clone(), tag.clone());
                    let stamp = Self::StampTag { scope, tag, checked: row.checked, hold_until: row.hold_until };
                    return Ok(Some(Cow::Owned(stamp)));
                }
                Ok(Some(Cow::Borrowed(self)))
            }
            Self::StampTag { .. }
            | Self::PutList { .. }
            | Self::PutManifestType { .. }
            | Self::GrantManifest { .. }
            | Self::GrantBlob { .. }
            | Self::DropLists { .. }
            | Self::DropGrants { .. }
            | Self::DropExpired { .. }
            | Self::UseGrant { .. }
            | Self::PutBlob { .. }
            | Self::RemoveBlob { .. }
            | Self::RemoveMissing { .. }
            | Self::PutLost { .. }
            | Self::BeginEviction(_)
            | Self::EndEviction { .. }
            | Self::PutPin { .. }
            | Self::RemovePin { .. }
            | Self::PutChildren { .. }
            | Self::PutReferrer { .. } => Ok(Some(Cow::Borrowed(self))),
            // The order of use is made anew, and marks come of the pins.
            Self::NoteUses(_) | Self::NoteObtainable { .. } | Self::MarkPinned { .. } | Self::Unmark { .. } => Ok(None),
        }
    }

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
                let known = types.get(table::type_key(scope, &name))?.is_some();
                if !known {
                    types.insert(table::type_key(scope, &name), json(media_type)?.as_slice())?;
                }
                let row = GrantRow { media_type: Some(media_type.clone()), used_day: *day };
                let key = Key::digest(scope, *digest, *whole_authority);
                to.open_table(MANIFEST_GRANTS)?.insert(key.as_tuple(), json(&row)?.as_slice())?;
            }
            Self::GrantBlob { scope, whole_authority, digest, day } => {
                let row = GrantRow { media_type: None, used_day: *day };
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
                Order::open(to)?.put(&name, row)?;
                // There is a file again: an eviction that has not ended yet must not take its row.
                order::unmark_evicting(to, &[*digest])?;
                lost::heal(to, *digest)?;
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
            Self::PutLost { digest, row } => lost::put(to, *digest, row)?,
            Self::PutChildren { manifest, children } => {
                let name = manifest.to_string();
                let pinned_at = {
                    let mut listed = to.open_table(CHILDREN)?;
                    listed.insert(name.as_str(), json(children)?.as_slice())?;
                    let mut order = Order::open(to)?;
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
                let pinned_at = Order::open(to)?.pinned_at(&subject.to_string())?;
                if let Some(at) = pinned_at {
                    pins::reach(to, Some(scope), &referrer.to_string(), at)?;
                }
            }
            Self::NoteUses(uses) => order::note(to, uses)?,
            Self::NoteObtainable { digest, scope } => {
                Order::open(to)?.obtainable(&digest.to_string(), scope.authority.as_str())?;
            }
            Self::BeginEviction(digests) => order::mark_evicting(to, digests)?,
            Self::EndEviction { digests, gone } => {
                let marked = order::unmark_evicting(to, digests)?;
                for digest in marked.iter().filter(|_| *gone) {
                    remove_blob(to, *digest)?;
                    to.open_table(CHILDREN)?.remove(digest.to_string().as_str())?;
                }
            }
            Self::PutPin { pin, at } => {
                to.open_table(PINS)?.insert(pin.as_str(), order::seconds(*at))?;
            }
            Self::RemovePin { pin } => {
                to.open_table(PINS)?.remove(pin.as_str())?;
            }
            Self::MarkPinned { scope, manifest, at } => pins::mark(to, scope, *manifest, *at)?,
            Self::Unmark { digests, before } => {
                let mut order = Order::open(to)?;
                for digest in digests {
                    order.unpin(&digest.to_string(), order::seconds(*before))?;
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
    Order::open(to)?.remove(&name)
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
