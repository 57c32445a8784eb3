//! Tags: the manifests they point to, and when upstream was last asked.

use std::fmt;

use redb::{ReadTransaction, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Each, Fact, Kind, LogForm};
use crate::clock::Timestamp;
use crate::index::generation::Generations;
use crate::index::schema::{self, Key, TAGS};
use crate::index::{IndexError, Scope, is_default};
use crate::oci::{Authority, Digest, Repository, Tag};

/// The manifest that a tag points to, and when upstream was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRow {
    /// `None` is a tombstone: upstream said that the tag is gone.
    pub digest: Option<Digest>,
    pub checked: Timestamp,
    /// After a failed check, the tag is served stale unasked until then.
    #[serde(default)]
    pub hold_until: Timestamp,
    /// Newest last, at most [`TagRow::MAX_HISTORY`].
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// An operator has said where it points; upstream is not asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_pinned: bool,
    /// An operator has made it another name of this tag; the row has no digest of its own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasTarget>,
    /// What upstream names, and since when it was seen: too young to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<HistoryEntry>,
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    pub authority: Authority,
    pub repository: Repository,
    pub tag: Tag,
}

impl fmt::Display for AliasTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.authority, self.repository, self.tag)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub digest: Digest,
    pub since: Timestamp,
}

impl fmt::Display for HistoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, seen since {}", self.digest, self.since.rfc3339())
    }
}

impl TagRow {
    pub const MAX_HISTORY: usize = 20;

    /// The row after a check that found `digest`.
    #[must_use]
    pub fn moved_to(previous: Option<Self>, digest: Digest, now: Timestamp) -> Self {
        let mut history = previous.map(|row| row.history).unwrap_or_default();
        if history.last().is_none_or(|last| last.digest != digest) {
            history.push(HistoryEntry { digest, since: now });
            let surplus = history.len().saturating_sub(Self::MAX_HISTORY);
            history.drain(..surplus);
        }
        Self {
            digest: Some(digest),
            checked: now,
            hold_until: Timestamp::default(),
            history,
            is_pinned: false,
            alias: None,
            waiting: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutTag {
    pub scope: Scope,
    pub tag: Tag,
    pub row: TagRow,
}

impl Kind for PutTag {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        change_row(to, &self.scope, &self.tag, |known| {
            let is_ordered = |row: &TagRow| row.is_pinned || row.alias.is_some();
            // A check that had begun before an operator said where it points changes nothing.
            let is_late = known.as_ref().is_some_and(is_ordered) && !is_ordered(&self.row);
            (!is_late).then(|| self.row.clone())
        })
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }

    /// A busy tag is checked every minute, and its history may be long.
    fn log_form(&self, before: &WriteTransaction) -> Result<LogForm, IndexError> {
        let Self { scope, tag, row } = self;
        let old: Option<TagRow> = schema::row(&before.open_table(TAGS)?, &Key::tag(scope, tag))?;
        if old.is_none_or(|old| {
            old.digest != row.digest
                || old.history != row.history
                || old.is_pinned != row.is_pinned
                || old.alias != row.alias
                || old.waiting != row.waiting
        }) {
            return Ok(LogForm::Whole);
        }
        let (scope, tag) = (scope.clone(), tag.clone());
        let stamp = StampTag { scope, tag, checked: row.checked, hold_until: row.hold_until };
        Ok(LogForm::Short(Box::new(Fact::StampTag(stamp))))
    }

    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let known: Option<TagRow> = schema::row(&from.open_table(TAGS)?, &Key::tag(&self.scope, &self.tag))?;
        Ok(known.is_none_or(|known| known.checked < self.row.checked))
    }

    fn new_row(&self) -> Option<(&Authority, u64)> {
        let Self { scope, tag, row } = self;
        let is_told = row.digest.is_some() && !row.is_pinned && row.alias.is_none();
        let bytes = scope.row_bytes(tag.as_str().len() + 256 + 128 * row.history.len());
        is_told.then_some((&scope.authority, bytes))
    }
}

/// A tag was found to point where it pointed: what the log keeps of such a [`PutTag`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StampTag {
    pub scope: Scope,
    pub tag: Tag,
    pub checked: Timestamp,
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold_until: Timestamp,
}

impl Kind for StampTag {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        change_row(to, &self.scope, &self.tag, |known| {
            known.map(|row| TagRow { checked: self.checked, hold_until: self.hold_until, ..row })
        })
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }
}

/// An operator says where a tag points, whatever upstream says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PinTag {
    pub scope: Scope,
    pub tag: Tag,
    pub digest: Digest,
    pub at: Timestamp,
}

impl Kind for PinTag {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        change_row(to, &self.scope, &self.tag, |known| {
            Some(TagRow { is_pinned: true, ..TagRow::moved_to(known, self.digest, self.at) })
        })
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }
}

/// Upstream decides again where a tag points. Until it has said so, the tag counts as never checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpinTag {
    pub scope: Scope,
    pub tag: Tag,
}

impl Kind for UnpinTag {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        change_row(to, &self.scope, &self.tag, |known| {
            let (checked, hold_until) = (Timestamp::default(), Timestamp::default());
            let pinned = known.filter(|row| row.is_pinned)?;
            Some(TagRow { checked, hold_until, is_pinned: false, ..pinned })
        })
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }
}

/// An operator makes a tag another name of a tag elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutAlias {
    pub scope: Scope,
    pub tag: Tag,
    pub target: AliasTarget,
    pub at: Timestamp,
}

impl Kind for PutAlias {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        change_row(to, &self.scope, &self.tag, |known| {
            Some(TagRow {
                digest: None,
                checked: self.at,
                hold_until: Timestamp::default(),
                history: known.map(|known| known.history).unwrap_or_default(),
                is_pinned: false,
                alias: Some(self.target.clone()),
                waiting: None,
            })
        })
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_tag(&self.scope, &self.tag);
    }
}

/// Writes what `change` makes of a tag's row; `None` leaves it.
fn change_row(
    to: &WriteTransaction,
    scope: &Scope,
    tag: &Tag,
    change: impl FnOnce(Option<TagRow>) -> Option<TagRow>,
) -> Result<(), IndexError> {
    let mut tags = to.open_table(TAGS)?;
    let key = Key::tag(scope, tag);
    if let Some(row) = change(schema::row(&tags, &key)?) {
        tags.insert(key.as_tuple(), schema::json(&row)?.as_slice())?;
    }
    Ok(())
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    schema::each_scoped(from, TAGS, |scope, _, tag, row| {
        let Ok(tag) = tag.parse() else { return Ok(()) };
        each(Fact::PutTag(PutTag { scope, tag, row }))
    })
}
