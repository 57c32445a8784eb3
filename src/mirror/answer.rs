//! The answers of the mirror: content, and how it came about. No HTTP.

use std::time::Duration;

use bytes::Bytes;

use crate::coalesce::Role;
use crate::oci::{Digest, MediaType};

use crate::cache::blocks::BlockWatch;
use crate::fill::BlobSource;

/// How an answer came about, for `Cache-Status`, `Age`, logs and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub outcome: Outcome,
    /// Since a tag or list was last checked; `None` for what is named by its digest.
    pub age: Option<Duration>,
    /// Why upstream was not believed or not asked, where the answer is stale.
    pub stale_because: Option<String>,
    /// The digest that upstream names for the tag, where that is too young to be given.
    pub held_back: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From memory or disk, upstream not asked.
    Hit,
    /// From memory or disk, after upstream confirmed it or this scope's right to it.
    Revalidated,
    /// Fetched for this request.
    Fill,
    /// Fetched, for a request that came earlier.
    Joined,
    /// From memory or disk, because upstream cannot be asked.
    Stale,
    /// A tag that an operator has pinned to this digest.
    Pinned,
    /// A tag that an operator has made an alias of another.
    Alias,
    /// A tag that stays at its older digest, because the newer one is too young.
    HeldBack,
    /// A part of a blob as upstream sends it, before the blob is proven.
    Unproven,
}

impl Outcome {
    /// The outcome of one of those who waited for the same work.
    #[must_use]
    pub(super) const fn seen_by(self, role: Role) -> Self {
        match (self, role) {
            (Self::Fill, Role::Joined) => Self::Joined,
            (outcome, _) => outcome,
        }
    }
}

impl Provenance {
    pub(super) const fn of(outcome: Outcome) -> Self {
        Self { outcome, age: None, stale_because: None, held_back: None }
    }
}

#[derive(Debug, Clone)]
pub struct ManifestAnswer {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
    pub provenance: Provenance,
}

pub struct BlobAnswer {
    pub digest: Digest,
    pub size_bytes: u64,
    pub source: BlobSource,
    /// Ends a body that takes longer than a moment, when the blob is blocked.
    pub watch: Option<BlockWatch>,
    pub provenance: Provenance,
}

#[derive(Debug, Clone)]
pub struct TagsAnswer {
    /// A JSON array of names.
    pub tags: Bytes,
    /// The query of the next page.
    pub next: Option<String>,
    pub provenance: Provenance,
}

#[derive(Debug, Clone)]
pub struct ReferrersAnswer {
    /// A JSON array of descriptors, as upstream wrote them.
    pub descriptors: Bytes,
    pub provenance: Provenance,
}

impl ReferrersAnswer {
    /// The manifests that refer to the subject.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + use<> {
        crate::upstream::ReferrerList::kept(self.descriptors.clone()).digests().into_iter()
    }
}
