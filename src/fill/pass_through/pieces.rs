//! A range in pieces: a client that leaves early costs upstream little more than what it has read.

use std::ops::Range;

use bytes::Bytes;

use super::{PassThroughSource, to_usize};
use crate::fill::error::FillError;
use crate::upstream::{Failure, OpenedBlob};

/// Most bytes of the first piece. Each piece may be twice as large as the one before.
pub(super) const FIRST_WINDOW: u64 = 1024 * 1024;
pub(super) const LARGEST_WINDOW: u64 = 16 * 1024 * 1024;

/// One answer of upstream with a part of the blob.
pub(super) struct Piece {
    opened: OpenedBlob,
    /// The position of the first byte in `rest`.
    position: u64,
    rest: Bytes,
    end: u64,
}

impl Piece {
    pub(super) async fn open(source: &PassThroughSource, range: Range<u64>) -> Result<Self, FillError> {
        let opened = source.open(range.start, Some(range.end)).await?;
        // An upstream that ignores ranges sends everything, and is not asked again for what it sends anyway.
        let end = if opened.start < range.start { source.size_bytes } else { range.end };
        Ok(Self { position: opened.start, opened, rest: Bytes::new(), end })
    }

    /// Whether the byte at `at` is still to come.
    pub(super) const fn has(&self, at: u64) -> bool {
        self.position <= at && at < self.end
    }

    /// Bytes from `at` on, at most to `end`.
    pub(super) async fn next(&mut self, source: &PassThroughSource, at: u64, end: u64) -> Result<Bytes, FillError> {
        let endpoint = self.opened.endpoint;
        loop {
            let surplus = to_usize(at - self.position).min(self.rest.len());
            let _before_the_range = self.rest.split_to(surplus);
            self.position += surplus as u64;
            if !self.rest.is_empty() {
                let bytes = self.rest.split_to(to_usize(end.min(self.end) - at).min(self.rest.len()));
                self.position += bytes.len() as u64;
                return Ok(bytes);
            }
            let chunk = self.opened.body.chunk().await.map_err(|failure| source.fail(endpoint, failure))?;
            let early = || source.fail(endpoint, Failure::Broken("its body ended early".to_owned()));
            self.rest = chunk.ok_or_else(early)?;
        }
    }
}
