//! What the census found, for the operator.

use serde::Serialize;

use crate::oci::{Authority, Digest, Repository};

/// Images by whether they could be pulled without upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImagesReport {
    /// Images of which every blob can be served.
    pub whole: u64,
    /// Images that lack blobs.
    pub incomplete: u64,
    /// Some of those, with what they lack.
    pub examples: Vec<IncompleteImage>,
}

/// An image that could not be pulled without upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncompleteImage {
    pub authority: Authority,
    pub repository: Repository,
    pub digest: Digest,
    /// Blobs that are not stored.
    pub missing: usize,
    /// Blobs that are stored, of which upstream has not yet said that this repository has them.
    pub unproven: usize,
    /// Some of both.
    pub blobs: Vec<Digest>,
}
