//! One answer of upstream with the whole blob: hashed, its tail held back until the digest is right.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{PassThroughSource, to_usize};
use crate::fill::error::FillError;
use crate::oci::Hasher;
use crate::upstream::{Failure, OpenedBlob};

pub(super) struct WholeBlob {
    opened: OpenedBlob,
    /// `None` once the digest is right.
    hasher: Option<Hasher>,
    /// The end of the bytes received.
    position: u64,
    /// Bytes received and not yet given to the reader.
    held: VecDeque<Bytes>,
}

impl WholeBlob {
    pub(super) async fn open(source: &PassThroughSource) -> Result<Self, FillError> {
        let opened = source.open(0, None).await?;
        let hasher = Some(Hasher::new(source.digest.algorithm()));
        Ok(Self { opened, hasher, position: 0, held: VecDeque::new() })
    }

    /// Bytes from `at` on, at most to `end`. The caller goes on where it was.
    pub(super) async fn next(&mut self, source: &PassThroughSource, at: u64, end: u64) -> Result<Bytes, FillError> {
        let tail_start = source.withheld_from();
        loop {
            let releasable = if self.hasher.is_none() { end } else { end.min(tail_start).min(self.position) };
            if releasable > at
                && let Some(bytes) = self.take(releasable - at)
            {
                return Ok(bytes);
            }
            self.receive(source).await?;
        }
    }

    async fn receive(&mut self, source: &PassThroughSource) -> Result<(), FillError> {
        let endpoint = self.opened.endpoint;
        let chunk = self.opened.body.chunk().await.map_err(|failure| source.fail(endpoint, failure))?;
        match (chunk, &mut self.hasher) {
            (Some(chunk), Some(hasher)) => {
                self.position += chunk.len() as u64;
                // The bytes held back must not grow without end.
                if self.position > source.size_bytes {
                    return Err(source.lied(endpoint));
                }
                hasher.update(&chunk);
                self.held.push_back(chunk);
                Ok(())
            }
            (None, Some(_)) if self.position == source.size_bytes => {
                let is_right = self.hasher.take().is_some_and(|hasher| hasher.finish() == source.digest);
                if is_right { Ok(()) } else { Err(source.lied(endpoint)) }
            }
            (Some(_) | None, _) => Err(source.fail(endpoint, Failure::Broken("its body ended early".to_owned()))),
        }
    }

    fn take(&mut self, limit: u64) -> Option<Bytes> {
        let first = self.held.front_mut()?;
        let bytes = first.split_to(to_usize(limit).min(first.len()));
        if first.is_empty() {
            self.held.pop_front();
        }
        Some(bytes)
    }
}
