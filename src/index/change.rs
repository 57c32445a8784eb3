use std::borrow::Cow;

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, MediaType, PinPattern, Tag};

use super::eviction_order::Access;
use super::row::{BlobRow, GrantRow, ListRow, ReferrerRow, TagRow};
use super::schema::{self, BLOB_GRANTS, Key, LAST, LISTS, MANIFEST_GRANTS, TAGS};
use super::unrecoverable::Unrecoverable;
use super::{IndexError, Scope, is_default};

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

    pub(super) const fn definition(self) -> redb::TableDefinition<'static, schema::ScopedKey, &'static [u8]> {
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
    /// The same of these digests, where one grant had opened them to the whole authority.
    DropPublicGrants {
        scope: Scope,
        digests: Vec<Digest>,
    },
    /// More was refused than could be remembered one by one: nothing may be read in this registry, or in any, without asking.
    /// What was imported stays readable: nobody could be asked for it again.
    DropAllGrants {
        authority: Option<Authority>,
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
    #[serde(rename = "put_lost")]
    PutUnrecoverable {
        digest: Digest,
        row: Unrecoverable,
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
    NoteAccesses(Vec<Access>),
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
    /// Marks as [`super::Index::stale_marks`] found them, to be dropped if they are still as old.
    #[serde(skip)]
    Unmark {
        digests: Vec<Digest>,
        before: Timestamp,
    },
}

impl Change {
    /// Takes something away that must not stay: never dropped for want of room.
    pub(super) const fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::DropGrants { .. }
                | Self::DropPublicGrants { .. }
                | Self::DropAllGrants { .. }
                | Self::DropLists { .. }
        )
    }

    /// What became of the bytes of a blob, or what they say: nothing can be asked for it again.
    pub(super) const fn is_of_bytes(&self) -> bool {
        matches!(
            self,
            Self::PutBlob { .. }
                | Self::RemoveBlob { .. }
                | Self::RemoveMissing { .. }
                | Self::PutUnrecoverable { .. }
                | Self::PutChildren { .. }
                | Self::PutReferrer { .. }
                | Self::BeginEviction(_)
                | Self::EndEviction { .. }
        )
    }

    /// About how many rows it changes, by its kind.
    pub(super) fn weight(&self) -> usize {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others change a few rows")]
        match self {
            Self::NoteAccesses(accesses) => accesses.len(),
            Self::BeginEviction(digests) | Self::EndEviction { digests, .. } | Self::Unmark { digests, .. } => {
                digests.len()
            }
            _ => 1,
        }
    }

    /// What the journal keeps of this change before it is applied; `None` of what may be lost with the index.
    pub(super) fn log_form(&self, before: &WriteTransaction) -> Result<Option<Cow<'_, Self>>, IndexError> {
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
            // Clients ask for any number of made-up names, which upstream does not have, or refuses.
            Self::DropLists { scope, family } if !has_rows(&before.open_table(LISTS)?, scope, family)? => Ok(None),
            Self::DropGrants { scope }
                if !has_rows(&before.open_table(LISTS)?, scope, "")?
                    && !has_rows(&before.open_table(MANIFEST_GRANTS)?, scope, "")?
                    && !has_rows(&before.open_table(BLOB_GRANTS)?, scope, "")? =>
            {
                Ok(None)
            }
            Self::StampTag { .. }
            | Self::PutList { .. }
            | Self::PutManifestType { .. }
            | Self::GrantManifest { .. }
            | Self::GrantBlob { .. }
            | Self::DropLists { .. }
            | Self::DropGrants { .. }
            | Self::DropPublicGrants { .. }
            | Self::DropAllGrants { .. }
            | Self::DropExpired { .. }
            | Self::UseGrant { .. }
            | Self::PutBlob { .. }
            | Self::RemoveBlob { .. }
            | Self::RemoveMissing { .. }
            | Self::PutUnrecoverable { .. }
            | Self::BeginEviction(_)
            | Self::EndEviction { .. }
            | Self::PutPin { .. }
            | Self::RemovePin { .. }
            | Self::PutChildren { .. }
            | Self::PutReferrer { .. } => Ok(Some(Cow::Borrowed(self))),
            // The order of use is made anew, and marks come of the pins.
            Self::NoteAccesses(_) | Self::NoteObtainable { .. } | Self::MarkPinned { .. } | Self::Unmark { .. } => {
                Ok(None)
            }
        }
    }
}

/// Whether a scope has rows whose last part begins with this.
pub(super) fn has_rows(
    table: &impl ReadableTable<schema::ScopedKey, &'static [u8]>,
    scope: &Scope,
    begins: &str,
) -> Result<bool, IndexError> {
    let (authority, repository) = (scope.authority.as_str(), scope.repository.as_str());
    let last = format!("{begins}{LAST}");
    let range = (scope.domain, authority, repository, begins)..=(scope.domain, authority, repository, last.as_str());
    Ok(table.range(range)?.next().is_some())
}
