//! A blob that cannot be stored, passed from the registry to one client.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Source;
use super::error::FillError;
use super::progress::WITHHELD_BYTES;
use crate::index::Scope;
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::{Digest, Hasher};
use crate::upstream::{Deadline, Failure, OpenedBlob};

/// The registry itself, for a blob that cannot be stored.
pub struct PassThroughSource {
    pub origin: Arc<Source>,
    pub scope: Scope,
    pub digest: Digest,
    pub size_bytes: u64,
    pub metrics: Metrics,
}

/// A body that passes through: hashed where it is read whole, its tail held back until the digest is right.
pub(super) struct PassThrough {
    source: Box<PassThroughSource>,
    opened: Option<OpenedBlob>,
    hasher: Option<Hasher>,
    /// The end of the bytes received.
    position: u64,
    /// Bytes received and not yet given to the reader.
    held: VecDeque<Bytes>,
    held_bytes: u64,
    complete: bool,
}

impl PassThrough {
    pub(super) fn new(source: Box<PassThroughSource>) -> Self {
        Self { source, opened: None, hasher: None, position: 0, held: VecDeque::new(), held_bytes: 0, complete: false }
    }

    /// Bytes from `at` on, at most to `end`. A range that reaches into the tail is answered from a whole read, hashed.
    pub(super) async fn next(&mut self, at: u64, end: u64) -> Result<Bytes, FillError> {
        let size = self.source.size_bytes;
        let needs_proof = end > size.saturating_sub(WITHHELD_BYTES);
        if self.opened.is_none() {
            self.open(if needs_proof { 0 } else { at }, needs_proof).await?;
        }
        loop {
            // Bytes before the range are only hashed.
            self.drop_before(at);
            let start = self.position - self.held_bytes;
            if self.held_bytes > 0 && start == at {
                let releasable = if !needs_proof || self.complete {
                    end
                } else {
                    end.min(size.saturating_sub(WITHHELD_BYTES)).min(self.position)
                };
                if releasable > at
                    && let Some(bytes) = self.take(releasable - at)
                {
                    return Ok(bytes);
                }
            }
            self.receive(needs_proof).await?;
        }
    }

    async fn open(&mut self, from: u64, hashed: bool) -> Result<(), FillError> {
        let PassThroughSource { origin, scope, digest, size_bytes, .. } = &*self.source;
        let deadline: Deadline = origin.client.answer_deadline();
        let opened = origin.client.pass_blob(&scope.repository, *digest, from, deadline).await?;
        if opened.size_bytes.is_some_and(|stated| stated != *size_bytes) {
            let why = format!("it has {size_bytes} bytes to HEAD, and another number to GET");
            return Err(origin.client.error_at(opened.endpoint, Failure::Refused(why)).into());
        }
        self.position = opened.start;
        self.hasher = hashed.then(|| Hasher::new(digest.algorithm()));
        self.opened = Some(opened);
        Ok(())
    }

    async fn receive(&mut self, hashed: bool) -> Result<(), FillError> {
        let PassThroughSource { origin, size_bytes, .. } = &*self.source;
        let Some(opened) = &mut self.opened else { return Err(FillError::Internal("not opened".to_owned())) };
        let endpoint = opened.endpoint;
        let fail = |failure| FillError::Upstream(origin.client.error_at(endpoint, failure));
        match opened.body.chunk().await.map_err(fail)? {
            Some(chunk) => {
                self.position += chunk.len() as u64;
                // The bytes held back must not grow without end.
                if self.position > *size_bytes {
                    return Err(self.lied(endpoint));
                }
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&chunk);
                }
                self.held_bytes += chunk.len() as u64;
                self.held.push_back(chunk);
                Ok(())
            }
            None if self.complete || !hashed || self.position < *size_bytes => {
                Err(fail(Failure::Broken("its body ended early".to_owned())))
            }
            None => {
                let right = self.hasher.take().is_some_and(|hasher| hasher.finish() == self.source.digest);
                if !right {
                    return Err(self.lied(endpoint));
                }
                self.complete = true;
                Ok(())
            }
        }
    }

    /// As for a fill: counted, logged, and the endpoint left alone for this digest.
    fn lied(&self, endpoint: usize) -> FillError {
        let PassThroughSource { origin, scope, digest, metrics, .. } = &*self.source;
        let error = origin.client.error_at(endpoint, Failure::BadDigest);
        metrics.digest_mismatches.get_or_create(&ByAuthority::of(&origin.facts.name)).inc();
        tracing::warn!(authority = origin.facts.name, repository = %scope.repository, %digest, endpoint = %error.endpoint,
            "upstream sent bytes that are not the blob");
        origin.client.mark_bad(endpoint, *digest);
        error.into()
    }

    fn drop_before(&mut self, at: u64) {
        while let Some(first) = self.held.front_mut() {
            let start = self.position - self.held_bytes;
            let Some(surplus) = at.checked_sub(start).filter(|surplus| *surplus > 0) else { return };
            let cut = to_usize(surplus).min(first.len());
            let _dropped = first.split_to(cut);
            self.held_bytes -= cut as u64;
            if first.is_empty() {
                self.held.pop_front();
            }
        }
    }

    fn take(&mut self, limit: u64) -> Option<Bytes> {
        let first = self.held.front_mut()?;
        let bytes = first.split_to(to_usize(limit).min(first.len()));
        self.held_bytes -= bytes.len() as u64;
        if first.is_empty() {
            self.held.pop_front();
        }
        Some(bytes)
    }
}

/// Reads a small blob that cannot be stored, whole, and proves it.
pub async fn read_whole(source: Box<PassThroughSource>) -> Result<Bytes, FillError> {
    let size_bytes = source.size_bytes;
    if size_bytes == 0 && Hasher::new(source.digest.algorithm()).finish() != source.digest {
        return Err(source.origin.client.error_at(0, Failure::BadDigest).into());
    }
    let mut body = PassThrough::new(source);
    let mut bytes = BytesMut::new();
    while (bytes.len() as u64) < size_bytes {
        bytes.extend_from_slice(&body.next(bytes.len() as u64, size_bytes).await?);
    }
    Ok(bytes.freeze())
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
