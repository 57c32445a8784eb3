//! What the connections of one attempt share.

mod checkpoint;
pub(in crate::mirror) mod connection;
mod first_connection;
pub(in crate::mirror) mod helpers;
mod intervals;
mod parallelism;
pub(in crate::mirror) mod receive_buffer;
pub(in crate::mirror) mod segments;

pub(in crate::mirror) use intervals::Intervals;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::index::Scope;
use crate::store::{Hashing, PartialFile, Progress, WritePipeline};

use crate::mirror::answer::PullError;
use crate::mirror::fill::download::checkpoint::Checkpoints;
use crate::mirror::fill::download::segments::{Id, Segments};
use crate::mirror::fill::progress::Fill;
use crate::mirror::fill::task::Stop;
use crate::mirror::{Mirror, Registry};

pub(in crate::mirror) struct Work<'a> {
    pub(in crate::mirror) mirror: &'a Arc<Mirror>,
    pub(in crate::mirror) registry: &'a Registry,
    pub(in crate::mirror) scope: &'a Scope,
    pub(in crate::mirror) fill: &'a Arc<Fill>,
    pub(in crate::mirror) pipeline: WritePipeline,
    pub(in crate::mirror) storing: tokio::sync::Mutex<Storing<'a>>,
    segments: Arc<Mutex<Segments>>,
    endpoints: Mutex<Vec<usize>>,
    /// The first thing that went wrong, other than a connection.
    trouble: Mutex<Option<Stop>>,
    /// Connections besides the first one that bring bytes.
    pub(in crate::mirror) helpers: AtomicUsize,
    /// Whether any of them has brought some.
    pub(in crate::mirror) helped: std::sync::atomic::AtomicBool,
    /// Something is free to be fetched. For the first connection.
    pub(in crate::mirror) freed: Notify,
    /// Everything is in the file.
    pub(in crate::mirror) complete: CancellationToken,
    /// Shutdown, or trouble.
    pub(in crate::mirror) abort: CancellationToken,
}

/// The partial file, and how much of it is set aside.
pub(in crate::mirror) struct Storing<'a> {
    pub(in crate::mirror) partial_file: &'a mut PartialFile,
    pub(in crate::mirror) reserved: u64,
}

impl<'a> Work<'a> {
    pub(in crate::mirror) fn new(
        (mirror, registry): (&'a Arc<Mirror>, &'a Registry),
        (scope, fill): (&'a Scope, &'a Arc<Fill>),
        partial_file: &'a mut PartialFile,
        segments: Segments,
    ) -> std::io::Result<Self> {
        let (segments, complete) = (Arc::new(Mutex::new(segments)), CancellationToken::new());
        let announcer =
            Announcer { fill: Arc::clone(fill), segments: Arc::clone(&segments), complete: complete.clone() };
        let pipeline = partial_file.pipeline(Box::new(announcer))?;
        Ok(Self {
            mirror,
            registry,
            scope,
            fill,
            pipeline,
            storing: tokio::sync::Mutex::new(Storing { partial_file, reserved: 0 }),
            segments,
            endpoints: Mutex::default(),
            trouble: Mutex::default(),
            helpers: AtomicUsize::new(0),
            helped: false.into(),
            freed: Notify::new(),
            complete,
            abort: mirror.stopping.child_token(),
        })
    }

    pub(in crate::mirror) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::mirror) fn take_part(&self, endpoint: usize) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }

    pub(in crate::mirror) fn endpoints(&self) -> Vec<usize> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the whole attempt.
    pub(in crate::mirror) fn fail(&self, stop: Stop) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
        self.abort.cancel();
    }

    /// Why the attempt was ended: by trouble, or because this process ends.
    pub(in crate::mirror) fn reason(&self) -> Stop {
        let stopped = || Stop::Keep(PullError::Internal(format!("{} is shutting down", self.scope.authority)));
        self.take_trouble().unwrap_or_else(stopped)
    }

    fn take_trouble(&self) -> Option<Stop> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sets aside space for so many bytes of the blob, if that is not done.
    pub(in crate::mirror) async fn reserve(&self, size_bytes: u64) -> Result<(), Stop> {
        let mut storing = self.storing.lock().await;
        if storing.reserved < size_bytes {
            self.mirror.reserve(storing.partial_file, self.registry, size_bytes).await?;
            storing.reserved = size_bytes;
        }
        Ok(())
    }

    pub(in crate::mirror) fn announce(&self, range: Range<u64>) {
        self.fill.announce(range);
    }

    /// A body of unknown size has ended at `size_bytes`. What is in the file behind that belongs to another blob.
    pub(in crate::mirror) fn learn_size(&self, size_bytes: u64) -> Result<(), Stop> {
        {
            let mut segments = self.segments();
            if size_bytes < segments.written_end() {
                return Err(Stop::StartAnew);
            }
            segments.learn_size(size_bytes);
        }
        self.look_whether_complete();
        Ok(())
    }

    pub(in crate::mirror) fn look_whether_complete(&self) {
        let (prefix, is_complete) = {
            let segments = self.segments();
            (segments.prefix(), segments.is_complete())
        };
        if is_complete {
            self.complete.cancel();
        }
        self.pipeline.hash_up_to(prefix);
    }

    /// Until all is there and hashed. Notes from time to time how much of it is safe on disk; the first `left` bytes are.
    pub(in crate::mirror) async fn follow(&self, left: u64) -> Result<(), Stop> {
        let mut checkpoints = Checkpoints::new(left, Instant::now());
        loop {
            let (hashed, now) = (self.pipeline.hashed(), Instant::now());
            let (prefix, size, is_complete) = {
                let segments = self.segments();
                (segments.prefix(), segments.size(), segments.is_complete())
            };
            if self.abort.is_cancelled() || (is_complete && hashed >= prefix) {
                return Ok(());
            }
            if checkpoints.is_due(hashed, now) {
                let has_begun = self.checkpoint(size, hashed).await;
                checkpoints.begun(has_begun.then_some(hashed), now);
            }
            tokio::select! {
                rests = self.pipeline.rests() => rests?,
                () = tokio::time::sleep_until(checkpoints.look_at(hashed, now)) => {}
                () = self.abort.cancelled() => {}
            }
        }
    }

    /// Whether one has begun: an earlier one may still be under way.
    async fn checkpoint(&self, size_bytes: Option<u64>, hashed: u64) -> bool {
        let mut storing = self.storing.lock().await;
        if storing.partial_file.is_noting() {
            return false;
        }
        let checkpoint = storing.partial_file.checkpoint(size_bytes, hashed);
        storing.partial_file.notes(self.mirror.tasks.spawn(async move {
            if let Err(err) = checkpoint.await {
                tracing::debug!(%err, "a checkpoint of a download failed");
            }
        }));
        true
    }

    /// How the attempt went. A shutdown does not spoil what is whole.
    pub(in crate::mirror) fn outcome(&self) -> Result<(), Stop> {
        match self.take_trouble() {
            Some(stop) => Err(stop),
            None if self.segments().size() == Some(self.pipeline.hashed()) => Ok(()),
            None => Err(self.reason()),
        }
    }

    /// Nothing is written or hashed any more when this returns. `None` if the hash is lost.
    pub(in crate::mirror) async fn end(self) -> Option<Hashing> {
        self.pipeline.end().await
    }

    pub(in crate::mirror) fn is_helped(&self) -> bool {
        self.helped.load(Ordering::Relaxed)
    }
}

/// Tells readers what is there, and the others whose it was.
struct Announcer {
    fill: Arc<Fill>,
    segments: Arc<Mutex<Segments>>,
    complete: CancellationToken,
}

impl Progress for Announcer {
    fn wrote(&self, by: Id, range: Range<u64>) -> u64 {
        let (prefix, is_complete) = {
            let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
            segments.wrote(by, range.clone());
            (segments.prefix(), segments.is_complete())
        };
        self.fill.announce(range);
        if is_complete {
            self.complete.cancel();
        }
        prefix
    }
}
