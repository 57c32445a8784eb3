//! Why a pull failed: only what a client can be told.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::blocks::Blocked;
use crate::coalesce::LeaderDied;
use crate::fill::FillError;
use crate::oci::Authority;
use crate::shared_bytes::Crowded;
use crate::upstream::{BreakerCause, Failure, UpstreamError};

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
    /// An operator has blocked it.
    #[error("{0}")]
    Blocked(Arc<Blocked>),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// What is held would lead the client to content that is not, and upstream cannot be asked for it.
    #[error("{error}; what is held is not whole: {lacks}")]
    Incomplete { error: UpstreamError, lacks: String },
    /// Too many downloads wait for their turn.
    #[error("too many downloads are waiting here")]
    Busy,
    /// Answers hold as much memory as they may.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The failure is on this side, and the next server, or this one started again, will answer.
    #[error("this mirror is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Internal(String),
}

impl From<FillError> for PullError {
    /// For a response that has not begun. [`super::Mirror::blob`] handles `Again` and `PassThrough` itself.
    fn from(error: FillError) -> Self {
        match error {
            FillError::Upstream(error) => Self::Upstream(error),
            FillError::Busy => Self::Busy,
            FillError::ShuttingDown => Self::ShuttingDown,
            FillError::Blocked(blocked) => Self::Blocked(blocked),
            FillError::Again | FillError::PassThrough(_) | FillError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
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
            | Self::Blocked(_)
            | Self::Incomplete { .. }
            | Self::Busy
            | Self::Crowded(_)
            | Self::ShuttingDown
            | Self::Internal(_) => None,
        }
    }

    /// What an operator can do; empty where nothing is wrong.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Upstream(error) | Self::Incomplete { error, .. } => error.failure.remedy(),
            Self::Busy => "raise `max_waiting_fills`, or see why downloads take long",
            Self::Crowded(_) => "clients try again; give this server more memory, or a second one, if it lasts",
            Self::ShuttingDown => "clients try again",
            Self::Internal(_) => "look for the id of the request in the log of this server",
            Self::NotFound { .. } | Self::RefusedByRule { .. } | Self::Blocked(_) => "",
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. }) || self.failure() == Some(&Failure::NotFound)
    }

    pub fn is_denied(&self) -> bool {
        matches!(self.failure(), Some(Failure::DeniedAnonymous | Failure::DeniedCredentials))
    }

    /// Upstream is there and has said no, in words that are not the spec's: no reason to serve what it said before.
    pub(super) fn is_upstreams_word(&self) -> bool {
        matches!(self.failure(), Some(Failure::UnexpectedStatus(_)))
    }

    /// This error, for a copy that is held and not whole. Errors that are not of an upstream stay.
    pub(super) fn of_incomplete(self, lacks: String) -> Self {
        match self {
            Self::Upstream(error) => Self::Incomplete { error, lacks },
            error @ (Self::NotFound { .. }
            | Self::RefusedByRule { .. }
            | Self::Blocked(_)
            | Self::Incomplete { .. }
            | Self::Busy
            | Self::Crowded(_)
            | Self::ShuttingDown
            | Self::Internal(_)) => error,
        }
    }

    /// Upstream gave no answer that says anything about the content: asked later, it may.
    pub fn could_not_be_asked(&self) -> bool {
        match self {
            Self::Upstream(error) | Self::Incomplete { error, .. } => match &error.failure {
                Failure::RateLimited { .. }
                | Failure::Unreachable(_)
                | Failure::Timeout(_)
                | Failure::Crowded(_)
                | Failure::ServerError(_)
                | Failure::Broken(_)
                | Failure::BreakerOpen { .. }
                | Failure::LoginRefused
                | Failure::LockedOut
                | Failure::NoDescriptors => true,
                Failure::NotFound
                | Failure::DeniedAnonymous
                | Failure::DeniedCredentials
                | Failure::UnexpectedStatus(_)
                | Failure::Refused(_)
                | Failure::TooLarge { .. }
                | Failure::RangeNotThere
                | Failure::HeadRefused
                | Failure::BadDigest
                | Failure::Offline => false,
            },
            Self::Busy | Self::Crowded(_) | Self::ShuttingDown | Self::Internal(_) => true,
            Self::NotFound { .. } | Self::RefusedByRule { .. } | Self::Blocked(_) => false,
        }
    }

    /// Whether another repository may give it in place of this one. What is blocked is not looked for elsewhere.
    pub const fn may_be_elsewhere(&self) -> bool {
        !matches!(self, Self::Blocked(_))
    }

    /// Upstream is there, and has had enough of us.
    pub fn is_rationed(&self) -> bool {
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
