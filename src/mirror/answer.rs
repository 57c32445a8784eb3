//! What the mirror answers: content, and how it came by it. No HTTP.

use std::time::Duration;

use bytes::Bytes;

use crate::coalesce::{LeaderDied, Role};
use crate::oci::{Authority, Digest, MediaType};
use crate::upstream::{BreakerCause, Failure, UpstreamError};

use crate::mirror::fill::reader::BlobSource;

/// How an answer came about, for `Cache-Status`, `Age`, logs and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub outcome: Outcome,
    /// Since a tag or list was last checked; `None` for what is named by its digest.
    pub age: Option<Duration>,
    /// Why upstream was not believed or not asked, where the answer is stale.
    pub stale_because: Option<String>,
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
}

impl Outcome {
    /// The outcome of one of those who waited for the same work.
    #[must_use]
    pub(in crate::mirror) const fn seen_by(self, role: Role) -> Self {
        match (self, role) {
            (Self::Fill, Role::Joined) => Self::Joined,
            (outcome, _) => outcome,
        }
    }
}

impl Provenance {
    pub(in crate::mirror) const fn of(outcome: Outcome) -> Self {
        Self { outcome, age: None, stale_because: None }
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
    pub provenance: Provenance,
}

#[derive(Debug, Clone)]
pub struct TagsAnswer {
    pub tags: Vec<String>,
    /// The query of the next page.
    pub next: Option<String>,
    pub provenance: Provenance,
}

#[derive(Debug, Clone)]
pub struct ReferrersAnswer {
    /// Descriptors, all of them, as upstream wrote them.
    pub descriptors: Vec<serde_json::Value>,
    pub provenance: Provenance,
}

/// Why a pull failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    #[error("{authority} has no such content")]
    NotFound {
        authority: Authority,
        /// Believed from an earlier answer, or known without asking.
        remembered: bool,
        /// Nobody was asked, by configuration.
        offline: bool,
    },
    #[error("the rules for {authority} (`allow`, `deny`) refuse this repository")]
    RefusedByRule { authority: Authority },
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The download began anew, or cannot be kept: asked again, the answer will differ.
    #[error("the download was started again")]
    Restarted,
    #[error("cannot be cached: {0}")]
    Uncacheable(String),
    /// Too many downloads wait for their turn.
    #[error("too many downloads are waiting here")]
    Busy,
    #[error("{0}")]
    Internal(String),
}

impl From<LeaderDied> for PullError {
    fn from(died: LeaderDied) -> Self {
        Self::Internal(died.to_string())
    }
}

impl PullError {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Upstream(error) => Some(&error.failure),
            Self::NotFound { .. }
            | Self::RefusedByRule { .. }
            | Self::Restarted
            | Self::Uncacheable(_)
            | Self::Busy
            | Self::Internal(_) => None,
        }
    }

    pub(in crate::mirror) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. }) || self.failure() == Some(&Failure::NotFound)
    }

    pub(in crate::mirror) fn is_denied(&self) -> bool {
        matches!(self.failure(), Some(Failure::DeniedAnonymous | Failure::DeniedCredentials))
    }

    /// Upstream is there and has said no, in words that are not the spec's: no reason to serve what it said before.
    pub(in crate::mirror) fn is_upstreams_word(&self) -> bool {
        matches!(self.failure(), Some(Failure::UnexpectedStatus(_)))
    }

    /// Upstream is there, and has had enough of us.
    pub(in crate::mirror) fn is_rationed(&self) -> bool {
        matches!(
            self.failure(),
            Some(Failure::RateLimited { .. } | Failure::BreakerOpen { cause: BreakerCause::RateLimited, .. })
        )
    }

    /// How long upstream wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.failure() {
            Some(Failure::RateLimited { retry_after }) => *retry_after,
            Some(Failure::BreakerOpen { retry_after, .. }) => Some(*retry_after),
            _ => None,
        }
    }
}
