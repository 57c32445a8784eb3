//! The task behind a fill: from the first request upstream to the committed blob.
//!
//! Announced bytes are never rewritten. A broken connection is resumed by Range; an upstream that ignores Range is read
//! from the start and compared; where it differs, the readers are cut and everything starts anew in another file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::index::{BlobRow, Change, Scope};
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::Digest;
use crate::store::{self, CommitError, Committed, Ingest};
use crate::upstream::{Failure, OpenedBlob, UpstreamError};

use super::fill::Fill;
use super::outcome::PullError;
use super::{Member, Mirror};

/// Chunks between the network and the disk.
const PIPE_CHUNKS: usize = 16;
/// What a kill -9 may cost.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// Set aside ahead of a blob that does not tell its size.
const UNKNOWN_SIZE_STEP: u64 = 1024 * 1024;
/// Connections that broke in a row without bringing a byte.
const MAX_FRUITLESS: u32 = 5;
/// Longest wait of readers for an endpoint that is being left alone.
const MAX_BREAKER_WAIT: Duration = Duration::from_secs(15);
/// Beginnings of one fill: a resumed one, one from zero, and one per endpoint that lied.
const MAX_BEGINNINGS: u32 = 4;

/// How one beginning ended, other than well.
enum Stop {
    Failed(PullError),
    /// What is in the file cannot be continued: once more, from nothing.
    StartAnew,
    /// Shutdown: what is there is kept for the next process.
    Keep(PullError),
}

impl From<UpstreamError> for Stop {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<CommitError> for Stop {
    fn from(error: CommitError) -> Self {
        Self::Failed(PullError::Uncacheable(error.to_string()))
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        let what = if store::is_no_space(&error) { "the disk is full" } else { "the disk failed" };
        Self::Failed(PullError::Uncacheable(format!("{what} ({error})")))
    }
}

/// State of one beginning.
struct Beginning<'a> {
    mirror: &'a Arc<Mirror>,
    member: &'a Member,
    scope: &'a Scope,
    fill: &'a Fill,
    ingest: Ingest,
    size_bytes: Option<u64>,
    /// Bytes that readers have been promised.
    announced: u64,
    checkpoint: Option<tokio::task::JoinHandle<()>>,
    checkpointed: u64,
    endpoints: Vec<usize>,
    /// Bytes of an earlier process, or of a fill that broke: they are hashed before anything is added.
    left: u64,
    /// Space set aside.
    reserved: u64,
}

/// Counts a fill for as long as it runs, however it ends.
struct Running {
    metrics: Metrics,
    labels: ByAuthority,
}

impl Running {
    fn new(metrics: &Metrics, labels: ByAuthority) -> Self {
        metrics.fills_running.get_or_create(&labels).inc();
        Self { metrics: metrics.clone(), labels }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.fills_running.get_or_create(&self.labels).dec();
    }
}

impl Mirror {
    /// Runs one fill to its end. Everything that can happen to it is recorded in the fill and the flight map.
    ///
    /// `may_be_stored`: who asked for it had found nothing stored, and an earlier fill may have ended since.
    pub(super) async fn lead(self: Arc<Self>, member: Arc<Member>, scope: Scope, fill: Arc<Fill>, may_be_stored: bool) {
        let _running = Running::new(&self.metrics, ByAuthority::of(member.name()));
        let mut entry = super::flight::Entry::new(&self.flights, &scope.authority, fill);
        if may_be_stored && self.is_stored(&scope, entry.fill().digest).await {
            entry.fill().fail(PullError::Restarted);
            return;
        }
        let mut resume = true;
        for _beginning in 0..MAX_BEGINNINGS {
            let fill = entry.fill();
            match self.begin(&member, &scope, &fill, resume).await {
                Ok(()) => return,
                Err(Stop::StartAnew) => {
                    resume = false;
                    let next = Arc::new(Fill::new(fill.digest, scope.clone()));
                    entry.replace(next);
                    fill.fail(PullError::Restarted);
                }
                Err(Stop::Failed(error) | Stop::Keep(error)) => {
                    if matches!(error, PullError::Uncacheable(_)) {
                        self.uncacheable.insert(fill.digest, self.clock.now());
                    }
                    fill.fail(error);
                    return;
                }
            }
        }
        entry.fill().fail(member.upstream.error_at(0, Failure::BadDigest).into());
    }

    async fn begin(self: &Arc<Self>, member: &Member, scope: &Scope, fill: &Fill, resume: bool) -> Result<(), Stop> {
        let (ingest, left, known_size) = if resume {
            self.store.resume(&scope.authority, fill.digest).await?
        } else {
            (self.store.begin(&scope.authority, fill.digest).await?, 0, None)
        };
        let mut beginning = Beginning {
            mirror: self,
            member,
            scope,
            fill,
            ingest,
            size_bytes: known_size.filter(|_| left > 0),
            announced: 0,
            checkpoint: None,
            checkpointed: left,
            endpoints: Vec::new(),
            left,
            reserved: 0,
        };
        let ended = beginning.download().await;
        if let Some(checkpoint) = beginning.checkpoint.take() {
            // A checkpoint that failed costs bytes after a crash, nothing else.
            let _failed = checkpoint.await;
        }
        match ended {
            Ok(()) => beginning.finish().await,
            Err(stop) => {
                beginning.put_away(&stop).await;
                Err(stop)
            }
        }
    }

    async fn is_stored(&self, scope: &Scope, digest: Digest) -> bool {
        match self.index.blob(scope, digest, false).await {
            Ok((Some(row), _)) => matches!(self.open_stored(digest, &row).await, Ok(Some(_))),
            Ok((None, _)) | Err(_) => false,
        }
    }
}

fn backoff(fruitless: u32) -> Duration {
    Duration::from_millis(100) * 2_u32.saturating_pow(fruitless).min(32)
}

impl Beginning<'_> {
    /// What there is of a blob that did not become whole: kept where only the way to it failed, removed where the bytes, or
    /// the disk, are wrong.
    async fn put_away(self, stop: &Stop) {
        let keeps = match stop {
            Stop::Keep(_) => true,
            Stop::Failed(PullError::Upstream(error)) => error.failure != Failure::BadDigest,
            Stop::Failed(_) | Stop::StartAnew => false,
        };
        let digest = self.fill.digest;
        let cleaned = match (keeps, self.ingest.written()) {
            // Nothing was added, and nothing was found wrong with what is there.
            (true, written) if written < self.left => {
                self.ingest.leave(self.left);
                Ok(())
            }
            (true, written) if written > 0 => self.ingest.keep(self.size_bytes).await,
            _ => self.ingest.discard().await,
        };
        if let Err(err) = cleaned {
            tracing::warn!(%digest, %err, "a partial file could not be put in order");
        }
    }

    /// Downloads until everything is written.
    async fn download(&mut self) -> Result<(), Stop> {
        let left = self.left;
        let mut fruitless = 0;
        let mut avoid = None;
        let mut rehashed = left == 0;
        loop {
            // Of a file that was complete, one byte is asked again: it shows that this scope may have the blob.
            let resumed = self.size_bytes.map_or(left, |size| left.min(size.saturating_sub(1)));
            let from = if rehashed { self.ingest.written() } else { resumed };
            if self.is_complete() && rehashed && self.announced > 0 {
                return Ok(());
            }
            let stopping = self.mirror.stopping.clone();
            let opened = tokio::select! {
                opened = self.open(from, avoid) => opened,
                () = stopping.cancelled() => return Err(self.stopped()),
            };
            let opened = match opened {
                Ok(opened) => opened,
                // Whoever cannot give the rest may still give the whole.
                Err(error) if from > 0 && matches!(error.failure, Failure::RangeNotThere | Failure::Refused(_)) => {
                    tracing::debug!(digest = %self.fill.digest, %error, "a download cannot be resumed");
                    return Err(Stop::StartAnew);
                }
                Err(error) => {
                    let again = self.announced > 0 && error.failure.tries_next_endpoint() && fruitless < MAX_FRUITLESS;
                    if !again {
                        return Err(error.into());
                    }
                    fruitless += 1;
                    // A breaker that this very outage opened is waited for, or it would outlast all tries.
                    let wait = match error.failure {
                        Failure::BreakerOpen { retry_after, .. } => retry_after.min(MAX_BREAKER_WAIT),
                        _ => backoff(fruitless),
                    };
                    self.pause(wait).await?;
                    continue;
                }
            };
            let endpoint = opened.endpoint;
            self.endpoints.push(endpoint);
            self.learn_size(&opened, endpoint).await?;
            self.fill.opened(self.ingest.file(), self.size_bytes);
            while !rehashed {
                if self.mirror.stopping.is_cancelled() {
                    return Err(self.stopped());
                }
                self.ingest.rehash(left).await?;
                self.announce();
                rehashed = self.ingest.written() >= left;
            }
            let before = self.ingest.written();
            match self.stream(opened).await? {
                None if self.size_bytes.is_none_or(|size| size == self.ingest.written()) => return Ok(()),
                broken => {
                    fruitless = if self.ingest.written() > before { 0 } else { fruitless + 1 };
                    let failure = broken.unwrap_or_else(|| Failure::Broken("its body ended early".to_owned()));
                    tracing::debug!(digest = %self.fill.digest, %failure, "a download broke");
                    if fruitless >= MAX_FRUITLESS || self.size_bytes.is_none() {
                        return Err(self.member.upstream.error_at(endpoint, failure).into());
                    }
                    avoid = Some(endpoint);
                    if fruitless > 0 {
                        self.pause(backoff(fruitless)).await?;
                    }
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.size_bytes.is_some_and(|size| size == self.ingest.written())
    }

    async fn open(&self, from: u64, avoid: Option<usize>) -> Result<OpenedBlob, UpstreamError> {
        let upstream = &self.member.upstream;
        upstream.open_blob(&self.scope.repository, self.fill.digest, from, avoid, upstream.patience()).await
    }

    async fn pause(&self, wait: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.mirror.stopping.cancelled() => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> Stop {
        Stop::Keep(PullError::Internal(format!("{} is shutting down", self.scope.authority)))
    }

    /// The size from the answer, or from a HEAD; another size than before means another blob.
    async fn learn_size(&mut self, opened: &OpenedBlob, endpoint: usize) -> Result<(), Stop> {
        let told = match (opened.size_bytes, self.size_bytes) {
            (None, None) => {
                let upstream = &self.member.upstream;
                let probe = upstream.probe_blob(&self.scope.repository, self.fill.digest, upstream.patience());
                probe.await.ok().flatten()
            }
            (told, _) => told,
        };
        match (told, self.size_bytes) {
            (Some(told), Some(known)) if told != known => {
                tracing::warn!(digest = %self.fill.digest, endpoint, known, told, "a blob changed its size upstream");
                Err(Stop::StartAnew)
            }
            (Some(told), None) => {
                self.reserve(told).await?;
                self.size_bytes = Some(told);
                Ok(())
            }
            // A resumed fill knows its size, and has reserved nothing yet.
            (_, Some(known)) => self.reserve(known).await,
            (None, None) => self.reserve(self.left + UNKNOWN_SIZE_STEP).await,
        }
    }

    /// Sets aside space for so many bytes of the blob, if that is not done.
    async fn reserve(&mut self, size_bytes: u64) -> Result<(), Stop> {
        if self.reserved < size_bytes {
            self.ingest.reserve(size_bytes).await?;
            self.reserved = size_bytes;
        }
        Ok(())
    }

    /// Receives, writes and announces until the body ends; the failure if it broke.
    async fn stream(&mut self, opened: OpenedBlob) -> Result<Option<Failure>, Stop> {
        let OpenedBlob { start, mut body, .. } = opened;
        let (to_disk, from_network) = mpsc::channel::<Bytes>(PIPE_CHUNKS);
        let stopping = self.mirror.stopping.clone();
        let receive = async move {
            loop {
                let chunk = tokio::select! {
                    chunk = body.chunk() => chunk,
                    () = stopping.cancelled() => return Ok(None),
                };
                match chunk {
                    Ok(Some(chunk)) => {
                        // The writer has stopped, and says why.
                        if to_disk.send(chunk).await.is_err() {
                            return Ok(None);
                        }
                    }
                    Ok(None) => return Ok(Some(())),
                    Err(failure) => return Err(failure),
                }
            }
        };
        let write = async {
            // Dropped where writing ends, so that receiving ends too.
            let mut from_network = from_network;
            let mut position = start;
            let mut chunks = Vec::new();
            while from_network.recv_many(&mut chunks, PIPE_CHUNKS).await > 0 {
                self.accept(&mut position, std::mem::take(&mut chunks)).await?;
            }
            Ok::<(), Stop>(())
        };
        let (received, written) = tokio::join!(receive, write);
        written?;
        match received {
            Ok(Some(())) => Ok(None),
            Ok(None) => Err(self.stopped()),
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Chunks from `position` on: those before the end of what is written are compared, the others appended.
    async fn accept(&mut self, position: &mut u64, chunks: Vec<Bytes>) -> Result<(), Stop> {
        let mut new = Vec::with_capacity(chunks.len());
        for mut chunk in chunks {
            let known = self.ingest.written().saturating_sub(*position).min(chunk.len() as u64);
            if known > 0 {
                let repeated = chunk.split_to(usize::try_from(known).unwrap_or(usize::MAX));
                let there = self.ingest.file().read(*position, repeated.len()).await?;
                if there != repeated {
                    tracing::warn!(digest = %self.fill.digest, "upstream sent other bytes than before; the download starts anew");
                    return Err(Stop::StartAnew);
                }
                *position += known;
            }
            if !chunk.is_empty() {
                *position += chunk.len() as u64;
                new.push(chunk);
            }
        }
        if self.size_bytes.is_some_and(|size| *position > size) {
            return Err(self.lied());
        }
        if new.is_empty() {
            return Ok(());
        }
        // Without a known size, space is asked for as the blob grows: it may have no end.
        if self.size_bytes.is_none() && *position > self.reserved {
            self.reserve(*position + UNKNOWN_SIZE_STEP).await?;
        }
        self.ingest.append(new).await?;
        self.announce();
        self.maybe_checkpoint();
        Ok(())
    }

    fn announce(&mut self) {
        let written = self.ingest.written();
        self.fill.announce(self.announced..written);
        self.announced = written;
    }

    fn maybe_checkpoint(&mut self) {
        let due = self.ingest.written() - self.checkpointed >= CHECKPOINT_BYTES;
        if due && self.checkpoint.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            self.checkpointed = self.ingest.written();
            let checkpoint = self.ingest.checkpoint(self.size_bytes);
            self.checkpoint = Some(self.mirror.tasks.spawn(async move {
                if let Err(err) = checkpoint.await {
                    tracing::debug!(%err, "a checkpoint of a download failed");
                }
            }));
        }
    }

    /// Every endpoint that took part is left alone for this digest. Another one, if there is any, is asked next. Bytes of
    /// an earlier process may be what is wrong: then nobody is blamed before one try from zero.
    fn lied(&self) -> Stop {
        if self.left > 0 {
            tracing::warn!(digest = %self.fill.digest, "a resumed download has a wrong digest; it starts anew");
            return Stop::StartAnew;
        }
        let (name, digest) = (self.member.name(), self.fill.digest);
        self.mirror.metrics.digest_mismatches.get_or_create(&ByAuthority::of(name)).inc();
        for endpoint in &self.endpoints {
            let error = self.member.upstream.error_at(*endpoint, Failure::BadDigest);
            tracing::warn!(authority = name, repository = %self.scope.repository, %digest, endpoint = %error.endpoint,
                "upstream sent bytes that are not the blob; nothing of them was kept");
            self.member.upstream.distrust(*endpoint, digest);
        }
        Stop::StartAnew
    }

    /// Proof, release of the tail, commit, record.
    async fn finish(mut self) -> Result<(), Stop> {
        let digest = self.fill.digest;
        if let Err(err) = self.ingest.prove(self.size_bytes) {
            let stop = match err {
                CommitError::Mismatch { .. } | CommitError::WrongSize { .. } => self.lied(),
                CommitError::NoSpace(_) | CommitError::Io(_) => err.into(),
            };
            self.put_away(&stop).await;
            return Err(stop);
        }
        let size_bytes = self.ingest.written();
        if self.size_bytes.is_none() {
            self.fill.opened(self.ingest.file(), Some(size_bytes));
        }
        self.fill.proven(size_bytes);
        let committed = match self.ingest.commit(Some(size_bytes)).await {
            Ok(committed) => committed,
            Err(err) => {
                // The readers have what they need; only the next one pays.
                tracing::warn!(%digest, %err, "a verified blob could not be stored");
                return Ok(());
            }
        };
        let scopes = self.fill.granted_scopes();
        self.mirror.record_blob(self.member, digest, scopes, committed).await;
        Ok(())
    }
}

impl Mirror {
    /// Writes down that a committed blob is there, and drops its partial name once that is durable.
    async fn record_blob(self: &Arc<Self>, member: &Member, digest: Digest, scopes: Vec<Scope>, committed: Committed) {
        let now = self.clock.now();
        let row = BlobRow {
            size_bytes: committed.size_bytes,
            origin: Some(member.upstream.authority().clone()),
            stored: now,
        };
        let mut changes = vec![Change::PutBlob { digest, row }];
        changes.extend(scopes.into_iter().map(|scope| Change::GrantBlob {
            scope,
            whole_authority: member.policy.public,
            digest,
            day: now.day(),
        }));
        // Visible first, so that the flight can end; durable in the background.
        if self.index.apply(changes.clone()).await.is_err() {
            return;
        }
        self.show_stored();
        let mirror = Arc::clone(self);
        self.tasks.spawn(async move { mirror.forget_partial_when_durable(committed).await });
    }

    pub(super) async fn forget_partial_when_durable(&self, committed: Committed) {
        if self.index.apply_durably(Vec::new()).await.is_ok()
            && let Err(err) = committed.unlink_partial().await
        {
            tracing::debug!(%err, "a partial file's name could not be removed; the next start does it");
        }
    }
}
