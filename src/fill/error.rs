//! Why a fill, or one of its readers, ends without the blob.

use std::sync::Arc;

use crate::cache::blocks::Blocked;
use crate::upstream::UpstreamError;

/// Why a fill ended without the blob. Cloned for each reader.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FillError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The download began anew, or the blob is stored by now: asked again, the answer will differ.
    #[error("the download was started again")]
    Again,
    /// The blob cannot be stored; it can be passed through.
    #[error("cannot be cached: {0}")]
    PassThrough(String),
    /// Too many downloads wait for their turn.
    #[error("too many downloads are waiting here")]
    Busy,
    /// It may not be read any more.
    #[error("{0}")]
    Blocked(Arc<Blocked>),
    #[error("this mirror is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Internal(String),
}
