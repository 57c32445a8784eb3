//! One download into a partial file, over one connection or several.
//!
//! The first connection decides whether the download fails ([`first_connection`]). Others help where that pays
//! ([`helpers`], [`parallelism`]). Which connection fetches which bytes is kept in [`segments`]. All of them write through
//! one pipeline, which hashes in order and tells readers what is there.

mod checkpoint;
mod connection;
mod first_connection;
mod helpers;
mod intervals;
mod pace;
mod parallelism;
mod receive_buffer;
mod room;
mod segments;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use intervals::Intervals;
pub(super) use room::FIRST;
pub(super) use segments::NEAR;

use super::Source;
use super::admission::FillPermit;
use super::error::FillError;
use super::progress::Fill;
use crate::cache::describe_fault;
use crate::cache::retention::Evictor;
use crate::index::Scope;
use crate::store::{CommitError, PartialFile, Progress, WritePipeline};
use crate::upstream::{OpenedBlob, UpstreamError};

use checkpoint::Checkpoints;
use first_connection::FirstConnection;
use room::Room;
use segments::{Id, Segments};

/// How one attempt ended, other than well.
pub(super) enum Stop {
    Failed(FillError),
    /// The disk refused something: requests are passed through.
    Disk(String),
    /// The download cannot go on from what is in the file: once more, from nothing.
    StartAnew,
    /// The bytes are not the blob.
    Lied,
    /// Shutdown: what is there is kept for the next process.
    Keep(FillError),
}

impl From<UpstreamError> for Stop {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<CommitError> for Stop {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Io(error) => error.into(),
            error @ (CommitError::NoSpace(_) | CommitError::Mismatch { .. } | CommitError::WrongSize { .. }) => {
                Self::Failed(FillError::PassThrough(error.to_string()))
            }
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        if matches!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
        {
            return Self::Failed(FillError::Busy);
        }
        Self::Disk(describe_fault(&error))
    }
}

/// The subject of a download.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) evictor: &'a Arc<Evictor>,
    pub(super) source: &'a Source,
    pub(super) scope: &'a Scope,
    pub(super) fill: &'a Arc<Fill>,
    pub(super) permit: &'a FillPermit,
}

/// The state that the connections of one download share.
pub(super) struct Download<'a> {
    job: Job<'a>,
    pipeline: WritePipeline,
    partial_file: tokio::sync::Mutex<&'a mut PartialFile>,
    segments: Arc<Mutex<Segments>>,
    endpoints: Mutex<Vec<usize>>,
    /// The first thing that went wrong, other than a connection.
    failure: Mutex<Option<Stop>>,
    room: Room,
    /// Connections besides the first one that bring bytes.
    helpers: AtomicUsize,
    /// Whether any of them has brought some.
    is_helped: AtomicBool,
    /// Something is free to be fetched. For the first connection.
    freed: Notify,
    /// Everything is in the file.
    complete: CancellationToken,
    /// Shutdown, or a failure.
    abort: CancellationToken,
}

/// How far a download has come when it ends.
pub(super) struct Downloaded {
    pub(super) size_bytes: Option<u64>,
    /// Bytes from the blob's beginning that are in the file without a gap.
    pub(super) written: u64,
    /// Where the last byte in the file ends.
    pub(super) written_end: u64,
    /// Whether upstream has answered.
    pub(super) has_begun: bool,
    /// Whether more than one connection has brought bytes.
    pub(super) is_helped: bool,
    pub(super) endpoints: Vec<usize>,
}

impl<'a> Download<'a> {
    /// A download whose first `left` bytes are in the file: bytes of an earlier process, or of a fill that broke.
    pub(super) fn new(
        job: Job<'a>,
        partial_file: &'a mut PartialFile,
        size_bytes: Option<u64>,
        left: u64,
    ) -> std::io::Result<Self> {
        let (segments, complete) = (Arc::new(Mutex::new(Segments::new(size_bytes, left))), CancellationToken::new());
        let announcer =
            Announcer { fill: Arc::clone(job.fill), segments: Arc::clone(&segments), complete: complete.clone() };
        let pipeline = partial_file.pipeline(Box::new(announcer))?;
        Ok(Self {
            job,
            pipeline,
            partial_file: tokio::sync::Mutex::new(partial_file),
            segments,
            endpoints: Mutex::default(),
            failure: Mutex::default(),
            room: Room::new(left),
            helpers: AtomicUsize::new(0),
            is_helped: AtomicBool::new(false),
            freed: Notify::new(),
            complete,
            abort: job.evictor.cache().context.stopping.child_token(),
        })
    }

    /// Downloads until everything is written and hashed, over more than one connection if it may be `parallel`. An upstream
    /// that is away in mid-download is waited for, as long as for a body that brings nothing.
    pub(super) async fn run(
        self,
        first: Option<OpenedBlob>,
        left: u64,
        is_parallel: bool,
    ) -> (Result<(), Stop>, Downloaded) {
        let mut connection = FirstConnection::new(&self, left);
        let begun = match first {
            Some(opened) => connection.begin(opened).await,
            None => connection.open_first().await,
        };
        let ended = match begun {
            Ok(begun) => {
                let help = async {
                    if let Some(same) = begun.same.as_ref().filter(|_| is_parallel) {
                        let may_hurry = tokio::select! {
                            () = self.job.fill.may_hurry() => true,
                            () = self.complete.cancelled() => false,
                            () = self.abort.cancelled() => false,
                        };
                        if may_hurry {
                            self.run_helpers(same).await;
                        }
                    }
                };
                let run = async {
                    if let Err(stop) = connection.run(begun.opened, begun.assignment).await {
                        self.fail(stop);
                    }
                };
                let hash = async {
                    if let Err(stop) = self.hash_and_checkpoint(left).await {
                        self.fail(stop);
                    }
                };
                tokio::join!(run, help, hash, self.end_if_blocked(), pace::keep_pace(&self));
                self.outcome()
            }
            Err(stop) => Err(stop),
        };
        let has_begun = connection.has_begun();
        let is_helped = self.is_helped();
        let downloaded = {
            let segments = self.segments();
            Downloaded {
                size_bytes: segments.size(),
                written: segments.prefix(),
                written_end: segments.written_end(),
                has_begun,
                is_helped,
                endpoints: self.endpoints(),
            }
        };
        let Self { pipeline, partial_file, .. } = self;
        // Nothing is written or hashed any more after this.
        if let Some(hashing) = pipeline.end().await {
            partial_file.into_inner().put_back(hashing);
        }
        (ended, downloaded)
    }

    async fn end_if_blocked(&self) {
        tokio::select! {
            () = self.job.fill.blocked() => self.fail(Stop::Failed(FillError::Again)),
            () = self.complete.cancelled() => {}
            () = self.abort.cancelled() => {}
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_part(&self, endpoint: usize) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }

    fn endpoints(&self) -> Vec<usize> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the whole download.
    fn fail(&self, stop: Stop) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
        self.abort.cancel();
    }

    /// Why the download was ended: by a failure, or because this process ends.
    fn reason(&self) -> Stop {
        let stopped = || Stop::Keep(FillError::ShuttingDown);
        self.take_failure().unwrap_or_else(stopped)
    }

    fn take_failure(&self) -> Option<Stop> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn announce(&self, range: Range<u64>) {
        self.job.fill.announce(range);
    }

    /// A body of unknown size has ended at `size_bytes`. Bytes behind that belong to another blob.
    fn learn_size(&self, size_bytes: u64) -> Result<(), Stop> {
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

    fn look_whether_complete(&self) {
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
    async fn hash_and_checkpoint(&self, left: u64) -> Result<(), Stop> {
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
                idle = self.pipeline.rests() => idle?,
                () = tokio::time::sleep_until(checkpoints.look_at(hashed, now)) => {}
                () = self.abort.cancelled() => {}
            }
        }
    }

    /// Whether one has begun: an earlier one may still be under way.
    async fn checkpoint(&self, size_bytes: Option<u64>, hashed: u64) -> bool {
        let mut partial_file = self.partial_file.lock().await;
        if partial_file.is_noting() {
            return false;
        }
        let checkpoint = partial_file.checkpoint(size_bytes, hashed);
        partial_file.notes(self.job.evictor.cache().context.tasks.spawn(async move {
            if let Err(err) = checkpoint.await {
                tracing::debug!(error = %err, "a checkpoint of a download failed");
            }
        }));
        true
    }

    /// How the download went. A shutdown does not spoil a blob that is whole.
    fn outcome(&self) -> Result<(), Stop> {
        match self.take_failure() {
            Some(stop) => Err(stop),
            None if self.segments().size() == Some(self.pipeline.hashed()) => Ok(()),
            None => Err(self.reason()),
        }
    }

    fn is_helped(&self) -> bool {
        self.is_helped.load(Ordering::Relaxed)
    }
}

/// Tells readers what is there, and the other connections who has fetched it.
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
