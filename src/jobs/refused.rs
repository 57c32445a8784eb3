//! Why a question or a change was refused, for people and for programs.

use std::fmt;

use crate::index::IndexError;

use super::JobOutcome;

/// A refusal, with a code that programs can rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: RefusedCode,
    pub message: String,
}

/// The codes. Their names keep their meaning for ever; others may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedCode {
    /// What was asked is malformed.
    Invalid,
    /// It needs the admin socket, or a token, and none came.
    Unauthorized,
    /// The token is another one.
    Forbidden,
    /// A page of another site has sent it.
    CrossSite,
    NotFound,
    MethodNotAllowed,
    /// No upstream of this name is configured.
    UnknownRegistry,
    /// A shortened digest fits more than one.
    Ambiguous,
    /// Something stands against it that has to be changed first.
    Conflict,
    /// A pin keeps it.
    Pinned,
    /// The body has more bytes than one call takes.
    TooLarge,
    /// The body is not of the kind that the call takes.
    UnsupportedMediaType,
    /// It cannot be read or written now.
    Unavailable,
}

impl RefusedCode {
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::CrossSite,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnknownRegistry,
        Self::Ambiguous,
        Self::Conflict,
        Self::Pinned,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unavailable,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::CrossSite => "cross_site",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownRegistry => "unknown_registry",
            Self::Ambiguous => "ambiguous",
            Self::Conflict => "conflict",
            Self::Pinned => "pinned",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unavailable => "unavailable",
        }
    }

    /// How an item ends that is refused so.
    pub const fn outcome(self) -> JobOutcome {
        match self {
            Self::NotFound => JobOutcome::Missing,
            Self::Unavailable => JobOutcome::Failed,
            Self::Invalid
            | Self::Unauthorized
            | Self::Forbidden
            | Self::CrossSite
            | Self::MethodNotAllowed
            | Self::UnknownRegistry
            | Self::Ambiguous
            | Self::Conflict
            | Self::Pinned
            | Self::TooLarge
            | Self::UnsupportedMediaType => JobOutcome::Refused,
        }
    }
}

impl Refused {
    pub fn new(code: RefusedCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(RefusedCode::Invalid, message)
    }

    /// More at once than the call takes.
    pub fn too_many(most: usize) -> Self {
        Self::invalid(format!("these are too many at once; {most} may come together"))
    }

    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(RefusedCode::NotFound, message)
    }
}

impl From<IndexError> for Refused {
    fn from(err: IndexError) -> Self {
        Self::new(RefusedCode::Unavailable, err)
    }
}
