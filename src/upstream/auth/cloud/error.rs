//! Why a cloud gave no token.

use crate::upstream::error::Failure;

/// A token that could not be had. The text holds no secret, and says what an operator can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::upstream) enum CloudError {
    /// `server` is a host.
    #[error("{server} {failure}; {remedy}")]
    Unanswered { server: String, failure: Failure, remedy: &'static str },
    /// `code` is the cloud's own word, with a space in front; empty if there is none.
    #[error("{server} refuses with status {status}{code}; {remedy}")]
    Refused { server: String, status: u16, code: String, remedy: &'static str },
    #[error("{server} gave an answer without {what}")]
    Unusable { server: String, what: &'static str },
    #[error("{file} cannot be read: {err}")]
    Unreadable { file: String, err: String },
    #[error("{file} {why}")]
    BadFile { file: String, why: &'static str },
    #[error("{registry} is no registry of this cloud")]
    Foreign { registry: String },
    #[error("the cloud's servers did not answer in time")]
    Late,
}

impl CloudError {
    /// Whether the same question may be answered a moment later.
    pub(super) const fn may_be_over_soon(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Unusable { .. }
            | Self::Unreadable { .. }
            | Self::BadFile { .. }
            | Self::Foreign { .. }
            | Self::Late => false,
        }
    }
}
