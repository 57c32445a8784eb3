use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::oci::{Authority, Digest, MediaType, Repository};

/// What a tag points to, and when that was last asked.
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub digest: Digest,
    pub since: Timestamp,
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
        Self { digest: Some(digest), checked: now, hold_until: Timestamp::default(), history }
    }
}

/// A list as last fetched: its exact content, in the form its user gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRow {
    /// JSON.
    pub content: String,
    pub checked: Timestamp,
    #[serde(default)]
    pub hold_until: Timestamp,
}

/// Upstream served this digest in this scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// Of a manifest; blobs have none.
    #[serde(default)]
    pub media_type: Option<MediaType>,
    /// Day of its last use, by [`Timestamp::day`].
    pub used_day: u64,
    /// Of a manifest granted to a whole authority: where it was asked for. `None` where that is not known, or where there
    /// are more than [`GrantRow::MAX_REPOSITORIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<Repository>>,
}

impl GrantRow {
    pub const MAX_REPOSITORIES: usize = 8;

    /// Whether a use in this repository would be news.
    pub fn may_add(&self, repository: &Repository) -> bool {
        self.repositories.as_ref().is_some_and(|known| !known.contains(repository))
    }

    /// The repositories of a row, with one more; `None` once there are too many to tell.
    pub(super) fn with(before: Option<Self>, repository: &Repository) -> Option<Vec<Repository>> {
        let mut known = before.map_or(Some(Vec::new()), |row| row.repositories)?;
        if !known.contains(repository) {
            known.push(repository.clone());
        }
        (known.len() <= Self::MAX_REPOSITORIES).then_some(known)
    }
}

/// Bytes that are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    pub size_bytes: u64,
    /// Whom the bytes came from; `None` where the index was lost since.
    #[serde(default)]
    pub origin: Option<Authority>,
    pub stored: Timestamp,
}

/// A manifest that names another as its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferrerRow {
    /// The descriptor for a referrers answer, as JSON.
    pub descriptor: serde_json::Value,
}
