//! One response body: bytes of a range, at the reader's own pace.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::index::Scope;
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::{Digest, Hasher};
use crate::store::{BlobFile, SEND_WINDOW};
use crate::upstream::{Deadline, Failure, OpenedBlob};

use crate::mirror::Registry;
use crate::mirror::answer::PullError;
use crate::mirror::fill::progress::{FillWatcher, WITHHELD_BYTES};

/// Where a blob's bytes come from.
pub enum BlobSource {
    /// HEAD was asked: there is nothing to read.
    Nothing,
    Memory(Bytes),
    Stored(BlobFile),
    Filling(FillSource),
    Uncached(Box<PassThroughSource>),
}

/// A running fill and its file.
pub struct FillSource {
    pub(in crate::mirror) watcher: FillWatcher,
    pub(in crate::mirror) file: BlobFile,
}

/// Upstream itself, for a blob that cannot be kept.
pub struct PassThroughSource {
    pub(in crate::mirror) registry: Arc<Registry>,
    pub(in crate::mirror) scope: Scope,
    pub(in crate::mirror) digest: Digest,
    pub(in crate::mirror) size_bytes: u64,
    pub(in crate::mirror) metrics: Metrics,
}

/// The next part of a range: bytes, or where they lie.
pub enum BodyPart {
    Bytes(Bytes),
    /// At most [`SEND_WINDOW`] bytes of a file, in memory when the piece was made.
    File {
        file: BlobFile,
        offset: u64,
        length: usize,
    },
}

/// Gives the bytes of one range. Dropping it changes nothing for others.
pub struct BlobReader {
    kind: Kind,
    at: u64,
    end: u64,
}

enum Kind {
    Memory(Bytes),
    File(BlobFile),
    Filling(FillSource),
    Uncached(Box<PassThrough>),
}

/// A body pass_through through: hashed where it is read whole, its tail held back until the digest is right.
struct PassThrough {
    source: Box<PassThroughSource>,
    opened: Option<OpenedBlob>,
    hasher: Option<Hasher>,
    /// Of the bytes received.
    position: u64,
    /// Received, and not yet given on.
    held: VecDeque<Bytes>,
    held_bytes: u64,
    complete: bool,
}

impl BlobSource {
    /// Reads `range`, which lies within the blob.
    pub fn reader(self, range: Range<u64>) -> BlobReader {
        let kind = match self {
            Self::Nothing => Kind::Memory(Bytes::new()),
            Self::Memory(bytes) => Kind::Memory(bytes),
            Self::Stored(file) => Kind::File(file),
            Self::Filling(source) => Kind::Filling(source),
            Self::Uncached(source) => Kind::Uncached(Box::new(PassThrough::new(source))),
        };
        BlobReader { kind, at: range.start, end: range.end }
    }
}

impl BlobReader {
    /// The next bytes; `None` at the end of the range. After an error the response must be cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PullError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let bytes = match &mut self.kind {
            Kind::Memory(bytes) => {
                let within = to_usize(self.at)..to_usize(self.end);
                if within.end > bytes.len() {
                    return Err(PullError::Internal("a range beyond the blob".to_owned()));
                }
                bytes.slice(within)
            }
            Kind::File(file) => read(file, self.at, self.end).await?,
            Kind::Filling(source) => {
                let readable = source.watcher.readable_from(self.at).await?;
                read(&source.file, self.at, readable.min(self.end)).await?
            }
            Kind::Uncached(pass_through) => pass_through.next(self.at, self.end).await?,
        };
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// As [`Self::next`], without reading what lies in a file.
    pub async fn next_part(&mut self) -> Result<Option<BodyPart>, PullError> {
        let (file, end) = match &mut self.kind {
            Kind::File(file) => (&*file, self.end),
            Kind::Filling(source) if self.at < self.end => {
                let readable = source.watcher.readable_from(self.at).await?;
                (&source.file, readable.min(self.end))
            }
            Kind::Memory(_) | Kind::Filling(_) | Kind::Uncached(_) => {
                return Ok(self.next().await?.map(BodyPart::Bytes));
            }
        };
        if self.at >= end {
            return Ok(None);
        }
        let (offset, length) = (self.at, to_usize(end - self.at).min(SEND_WINDOW));
        self.at += length as u64;
        file.resident(offset..self.at).await.map_err(|err| unreadable(&err))?;
        Ok(Some(BodyPart::File { file: file.clone(), offset, length }))
    }
}

/// What a stored file that cannot be read means for the answer.
pub fn unreadable(err: &std::io::Error) -> PullError {
    PullError::Internal(format!("a stored blob cannot be read: {err}"))
}

async fn read(file: &BlobFile, at: u64, end: u64) -> Result<Bytes, PullError> {
    file.read_some(at, to_usize(end - at)).await.map_err(|err| unreadable(&err))
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl PassThrough {
    fn new(source: Box<PassThroughSource>) -> Self {
        Self { source, opened: None, hasher: None, position: 0, held: VecDeque::new(), held_bytes: 0, complete: false }
    }

    /// Bytes from `at` on, at most to `end`. A range that reaches into the tail is answered from a whole read, hashed.
    async fn next(&mut self, at: u64, end: u64) -> Result<Bytes, PullError> {
        let size = self.source.size_bytes;
        let needs_proof = end > size.saturating_sub(WITHHELD_BYTES);
        if self.opened.is_none() {
            self.open(if needs_proof { 0 } else { at }, needs_proof).await?;
        }
        loop {
            // What lies before the range was only for the hash.
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

    async fn open(&mut self, from: u64, hashed: bool) -> Result<(), PullError> {
        let PassThroughSource { registry, scope, digest, size_bytes, .. } = &*self.source;
        let deadline: Deadline = registry.client.patience();
        let opened = registry.client.pass_blob(&scope.repository, *digest, from, deadline).await?;
        if opened.size_bytes.is_some_and(|told| told != *size_bytes) {
            let why = format!("it has {size_bytes} bytes to HEAD, and another number to GET");
            return Err(registry.client.error_at(opened.endpoint, Failure::Refused(why)).into());
        }
        self.position = opened.start;
        self.hasher = hashed.then(|| Hasher::new(digest.algorithm()));
        self.opened = Some(opened);
        Ok(())
    }

    async fn receive(&mut self, hashed: bool) -> Result<(), PullError> {
        let PassThroughSource { registry, size_bytes, .. } = &*self.source;
        let Some(opened) = &mut self.opened else { return Err(PullError::Internal("not opened".to_owned())) };
        let endpoint = opened.endpoint;
        let fail = |failure| PullError::Upstream(registry.client.error_at(endpoint, failure));
        match opened.body.chunk().await.map_err(fail)? {
            Some(chunk) => {
                self.position += chunk.len() as u64;
                // What is held back must not grow without end.
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
    fn lied(&self, endpoint: usize) -> PullError {
        let PassThroughSource { registry, scope, digest, metrics, .. } = &*self.source;
        let error = registry.client.error_at(endpoint, Failure::BadDigest);
        metrics.digest_mismatches.get_or_create(&ByAuthority::of(registry.name())).inc();
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %digest, endpoint = %error.endpoint,
            "upstream sent bytes that are not the blob");
        registry.client.distrust(endpoint, *digest);
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

/// Reads a small blob through, whole, and proves it: for one that cannot be kept.
pub(in crate::mirror) async fn read_whole(source: Box<PassThroughSource>) -> Result<Bytes, PullError> {
    let size = source.size_bytes;
    if size == 0 && Hasher::new(source.digest.algorithm()).finish() != source.digest {
        return Err(source.registry.client.error_at(0, Failure::BadDigest).into());
    }
    let mut reader = BlobSource::Uncached(source).reader(0..size);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = reader.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
