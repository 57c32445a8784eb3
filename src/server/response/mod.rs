//! From the mirror's answer to a response.

pub(in crate::server) mod answer;
pub(in crate::server) mod body;
pub(in crate::server) mod cached_headers;
pub(in crate::server) mod error;
pub(in crate::server) mod headers;
mod multipart;
pub(in crate::server) mod sendfile;
pub(in crate::server) mod stream_progress;
