//! What the connections of one beginning share, and the hash that follows them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::index::Scope;
use crate::store::{Hashing, Ingest, Writer};

use super::fill::Fill;
use super::lead::Stop;
use super::outcome::PullError;
use super::segments::{Id, Segments};
use super::{Member, Mirror};

/// Not worth a checkpoint.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// What came in so long is what a kill -9 may cost: a sync takes the disk from those who read and write.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Written bytes that are kept in memory for the hash. What does not fit is read back from the file.
const FRESH_BYTES: usize = 2 * 1024 * 1024;

pub(super) struct Work<'a> {
    pub(super) mirror: &'a Arc<Mirror>,
    pub(super) member: &'a Member,
    pub(super) scope: &'a Scope,
    pub(super) fill: &'a Fill,
    pub(super) writer: Writer,
    pub(super) storing: tokio::sync::Mutex<Storing<'a>>,
    segments: Mutex<Segments>,
    fresh: Mutex<VecDeque<(u64, Bytes)>>,
    endpoints: Mutex<Vec<usize>>,
    /// The first thing that went wrong, other than a connection.
    trouble: Mutex<Option<Stop>>,
    /// Connections besides the first one that bring bytes.
    pub(super) helpers: AtomicUsize,
    /// Whether any of them has brought some.
    pub(super) helped: std::sync::atomic::AtomicBool,
    /// More is in the file. For the hash.
    grown: Notify,
    /// Something is free to be fetched. For the first connection.
    pub(super) freed: Notify,
    /// Everything is in the file.
    pub(super) complete: CancellationToken,
    /// Shutdown, or trouble.
    pub(super) abort: CancellationToken,
}

/// The partial file, and how much of it is set aside.
pub(super) struct Storing<'a> {
    pub(super) ingest: &'a mut Ingest,
    pub(super) reserved: u64,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        (mirror, member): (&'a Arc<Mirror>, &'a Member),
        (scope, fill): (&'a Scope, &'a Fill),
        ingest: &'a mut Ingest,
        segments: Segments,
    ) -> Self {
        Self {
            mirror,
            member,
            scope,
            fill,
            writer: ingest.writer(),
            storing: tokio::sync::Mutex::new(Storing { ingest, reserved: 0 }),
            segments: Mutex::new(segments),
            fresh: Mutex::default(),
            endpoints: Mutex::default(),
            trouble: Mutex::default(),
            helpers: AtomicUsize::new(0),
            helped: false.into(),
            grown: Notify::new(),
            freed: Notify::new(),
            complete: CancellationToken::new(),
            abort: mirror.stopping.child_token(),
        }
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_part(&self, endpoint: usize) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }

    pub(super) fn endpoints(&self) -> Vec<usize> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the whole beginning.
    pub(super) fn fail(&self, stop: Stop) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
        self.abort.cancel();
    }

    /// Why the beginning was ended: by trouble, or because this process ends.
    pub(super) fn reason(&self) -> Stop {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stopped = || Stop::Keep(PullError::Internal(format!("{} is shutting down", self.scope.authority)));
        trouble.unwrap_or_else(stopped)
    }

    /// Sets aside space for so many bytes of the blob, if that is not done.
    pub(super) async fn reserve(&self, size_bytes: u64) -> Result<(), Stop> {
        let mut storing = self.storing.lock().await;
        if storing.reserved < size_bytes {
            self.mirror.reserve(storing.ingest, self.member, size_bytes).await?;
            storing.reserved = size_bytes;
        }
        Ok(())
    }

    /// These bytes are in the file: readers may have them, and the hash goes on.
    pub(super) fn wrote(&self, id: Id, at: u64, chunks: Vec<Bytes>) {
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let (was_next, is_complete) = {
            let mut segments = self.segments();
            let was_next = segments.prefix() == at;
            segments.wrote(id, at..at + length);
            (was_next, segments.is_complete())
        };
        self.announce(at..at + length);
        if was_next {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept: usize = fresh.iter().map(|(_, bytes)| bytes.len()).sum();
            let mut at = at;
            for chunk in chunks {
                let start = at;
                at += chunk.len() as u64;
                kept += chunk.len();
                if kept <= FRESH_BYTES {
                    fresh.push_back((start, chunk));
                }
            }
        }
        if is_complete {
            self.complete.cancel();
        }
        self.grown.notify_one();
    }

    pub(super) fn announce(&self, range: Range<u64>) {
        self.fill.announce(range);
    }

    /// A body of unknown size has ended at `size_bytes`.
    pub(super) fn learn_size(&self, size_bytes: u64) {
        self.segments().learn_size(size_bytes);
        self.look_whether_complete();
    }

    pub(super) fn look_whether_complete(&self) {
        if self.segments().is_complete() {
            self.complete.cancel();
        }
        self.grown.notify_one();
    }

    /// Hashes what is there, in order, until all is. Notes from time to time how much of it is safe on disk.
    pub(super) async fn follow(&self, hashing: &mut Hashing, size_bytes: impl Fn() -> Option<u64>) -> Result<(), Stop> {
        let mut noted = hashing.done();
        let mut due = Instant::now() + CHECKPOINT_EVERY;
        loop {
            let (there, is_complete) = {
                let segments = self.segments();
                (segments.prefix(), segments.is_complete())
            };
            if self.abort.is_cancelled() || (is_complete && hashing.done() >= there) {
                return Ok(());
            }
            if hashing.done() - noted >= CHECKPOINT_BYTES && Instant::now() >= due {
                let mut storing = self.storing.lock().await;
                due = Instant::now() + CHECKPOINT_EVERY;
                if !storing.ingest.is_noting() {
                    noted = hashing.done();
                    let checkpoint = storing.ingest.checkpoint(size_bytes(), noted);
                    storing.ingest.notes(self.mirror.tasks.spawn(async move {
                        if let Err(err) = checkpoint.await {
                            tracing::debug!(%err, "a checkpoint of a download failed");
                        }
                    }));
                }
            }
            if there <= hashing.done() {
                let is_worth = hashing.done() - noted >= CHECKPOINT_BYTES;
                tokio::select! {
                    () = tokio::time::sleep_until(due), if is_worth => {}
                    () = self.grown.notified() => {}
                    () = self.abort.cancelled() => {}
                }
                continue;
            }
            let mut fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
            hashing.advance(there, &mut fresh).await?;
            if !fresh.is_empty() {
                let mut newer = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
                fresh.append(&mut newer);
                *newer = fresh;
            }
        }
    }

    /// How the beginning went. A shutdown does not spoil what is whole.
    pub(super) fn outcome(&self, hashing: &Hashing) -> Result<(), Stop> {
        match self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(stop) => Err(stop),
            None if self.segments().size() == Some(hashing.done()) => Ok(()),
            None => Err(self.reason()),
        }
    }

    pub(super) fn is_helped(&self) -> bool {
        self.helped.load(Ordering::Relaxed)
    }
}
