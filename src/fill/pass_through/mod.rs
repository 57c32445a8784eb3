//! A blob that cannot be stored, passed from the registry to one client.
//!
//! A client that asks for all of it gets one answer of upstream, hashed, its tail held back until the digest is right
//! ([`whole`]). A range is asked for in pieces that follow the client's reading ([`pieces`]). Only the whole blob proves the
//! tail: a range that reaches into it waits until the blob was read once for all who ask ([`tails`]).

mod pieces;
mod tails;
mod whole;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::Source;
use super::error::FillError;
use super::progress::WITHHELD_BYTES;
use crate::index::Scope;
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::{Digest, Hasher};
use crate::upstream::{Failure, OpenedBlob, PassingPlace};

use pieces::Piece;
pub(super) use tails::ProvenTails;
use whole::WholeBlob;

/// The registry itself, for a blob that cannot be stored.
#[derive(Clone)]
pub struct PassThroughSource {
    pub(super) origin: Arc<Source>,
    pub(super) scope: Scope,
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) metrics: Metrics,
    pub(super) tails: Arc<ProvenTails>,
    /// For the first question.
    pub(super) place: Arc<Mutex<Option<PassingPlace>>>,
}

/// The reading of one client.
pub(super) struct PassThrough {
    source: Box<PassThroughSource>,
    reading: Reading,
    /// Most bytes of the next piece.
    window: u64,
    /// Bytes from here on are given only with their proof.
    tail_start: u64,
}

enum Reading {
    Nothing,
    Whole(WholeBlob),
    Piece(Piece),
    Tail(Bytes),
}

impl PassThrough {
    pub(super) fn new(source: Box<PassThroughSource>) -> Self {
        let tail_start = source.withheld_from();
        Self { source, reading: Reading::Nothing, window: pieces::FIRST_WINDOW, tail_start }
    }

    /// Gives the tail as well without its proof.
    pub(super) fn unproven(source: Box<PassThroughSource>) -> Self {
        let tail_start = source.size_bytes;
        Self { source, reading: Reading::Nothing, window: pieces::FIRST_WINDOW, tail_start }
    }

    /// Bytes from `at` on, at most to `end`.
    pub(super) async fn next(&mut self, at: u64, end: u64) -> Result<Bytes, FillError> {
        let (size, tail_start) = (self.source.size_bytes, self.tail_start);
        if let Reading::Nothing = self.reading
            && (at, end) == (0, size)
            && tail_start < size
        {
            self.reading = Reading::Whole(WholeBlob::open(&self.source).await?);
        }
        if let Reading::Whole(whole) = &mut self.reading {
            return whole.next(&self.source, at, end).await;
        }
        if at < tail_start {
            return self.next_of_piece(at, end.min(tail_start)).await;
        }
        let tail = match &self.reading {
            Reading::Tail(tail) => tail.clone(),
            Reading::Nothing | Reading::Whole(_) | Reading::Piece(_) => {
                // A place of upstream's connections is not held while the tail is read.
                self.reading = Reading::Nothing;
                drop(self.source.place().take());
                let tail = self.source.tails.read(&self.source).await?;
                self.reading = Reading::Tail(tail.clone());
                tail
            }
        };
        let within = to_usize(at - tail_start)..to_usize(end - tail_start);
        if within.end > tail.len() {
            return Err(FillError::Internal("a range beyond the blob".to_owned()));
        }
        Ok(tail.slice(within))
    }

    async fn next_of_piece(&mut self, at: u64, end: u64) -> Result<Bytes, FillError> {
        let goes_on = matches!(&self.reading, Reading::Piece(piece) if piece.has(at));
        if !goes_on {
            let piece = Piece::open(&self.source, at..end.min(at.saturating_add(self.window))).await?;
            self.window = (self.window * 2).min(pieces::LARGEST_WINDOW);
            self.reading = Reading::Piece(piece);
        }
        match &mut self.reading {
            Reading::Piece(piece) => piece.next(&self.source, at, end).await,
            Reading::Nothing | Reading::Whole(_) | Reading::Tail(_) => {
                Err(FillError::Internal("a piece is not opened".to_owned()))
            }
        }
    }
}

impl PassThroughSource {
    /// Waits for a place: before it, an answer must not begin.
    pub async fn take_place(&self) -> Result<(), FillError> {
        let place = self.origin.client.place(self.origin.client.answer_deadline()).await?;
        *self.place() = Some(place);
        Ok(())
    }

    fn place(&self) -> MutexGuard<'_, Option<PassingPlace>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of the first byte that needs the proof of the whole.
    pub(super) const fn withheld_from(&self) -> u64 {
        self.size_bytes.saturating_sub(WITHHELD_BYTES)
    }

    /// An answer of upstream from `from` on, to the blob's end or to `end`.
    async fn open(&self, from: u64, end: Option<u64>) -> Result<OpenedBlob, FillError> {
        let Self { origin, scope, digest, size_bytes, .. } = self;
        let deadline = origin.client.answer_deadline();
        let place = self.place().take();
        let opened = origin.client.pass_blob(&scope.repository, *digest, (from, end), place, deadline).await?;
        if opened.size_bytes.is_some_and(|stated| stated != *size_bytes) {
            let why = format!("it has {size_bytes} bytes to HEAD, and another number to GET");
            return Err(origin.client.error_at(opened.endpoint, Failure::Refused(why)).into());
        }
        Ok(opened)
    }

    fn fail(&self, endpoint: usize, failure: Failure) -> FillError {
        self.origin.client.error_at(endpoint, failure).into()
    }

    /// As for a fill: counted, logged, and the endpoint left alone for this digest.
    fn lied(&self, endpoint: usize) -> FillError {
        let Self { origin, scope, digest, metrics, .. } = self;
        let error = origin.client.error_at(endpoint, Failure::BadDigest);
        metrics.digest_mismatches.get_or_create(&ByAuthority::of(&origin.facts.name)).inc();
        tracing::warn!(authority = origin.facts.name, repository = %scope.repository, %digest, endpoint = %error.endpoint,
            "upstream sent bytes that are not the blob");
        origin.client.mark_bad(endpoint, *digest);
        error.into()
    }
}

/// Reads a small blob that cannot be stored, whole, and proves it.
pub async fn read_whole(source: Box<PassThroughSource>) -> Result<Bytes, FillError> {
    let size_bytes = source.size_bytes;
    if size_bytes == 0 && Hasher::new(source.digest.algorithm()).finish() != source.digest {
        return Err(source.fail(0, Failure::BadDigest));
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
