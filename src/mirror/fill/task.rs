//! The task behind a fill: from the first request upstream to the committed blob.
//!
//! Announced bytes are never rewritten. A broken connection is resumed by Range; an upstream that ignores Range is read
//! from the start and compared; where it differs, the readers are cut and everything starts anew in another file.

use std::sync::Arc;

use crate::index::{BlobRow, Change, Scope};
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::Digest;
use crate::store::{self, CommitError, Committed, PartialFile};
use crate::upstream::{Failure, UpstreamError};

use crate::mirror::answer::PullError;
use crate::mirror::fill::admission::{Admission, FillPermit};
use crate::mirror::fill::progress::Fill;
use crate::mirror::{Mirror, Registry};

/// Beginnings of one fill: a resumed one, one from zero, and one per endpoint that lied.
const MAX_ATTEMPTS: u32 = 4;

/// How one attempt ended, other than well.
pub(in crate::mirror) enum Stop {
    Failed(PullError),
    /// The disk refused something: who asks is passed through.
    Disk(String),
    /// What is in the file cannot be continued: once more, from nothing.
    StartAnew,
    /// The bytes are not the blob.
    Lied,
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
        match error {
            CommitError::Io(error) => error.into(),
            error @ (CommitError::NoSpace(_) | CommitError::Mismatch { .. } | CommitError::WrongSize { .. }) => {
                Self::Failed(PullError::Uncacheable(error.to_string()))
            }
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        if matches!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
        {
            return Self::Failed(PullError::Busy);
        }
        Self::Disk(disk_failure(&error))
    }
}

/// For the operator.
pub(in crate::mirror) fn disk_failure(error: &std::io::Error) -> String {
    let what = if store::is_no_space(error) { "the disk is full" } else { "the disk failed" };
    format!("{what} ({error})")
}

/// State of one attempt.
pub(in crate::mirror) struct FillAttempt<'a> {
    pub(in crate::mirror) mirror: &'a Arc<Mirror>,
    pub(in crate::mirror) registry: &'a Registry,
    pub(in crate::mirror) scope: &'a Scope,
    pub(in crate::mirror) fill: &'a Arc<Fill>,
    pub(in crate::mirror) partial_file: PartialFile,
    pub(in crate::mirror) size_bytes: Option<u64>,
    /// Bytes of an earlier process, or of a fill that broke: they are hashed again.
    pub(in crate::mirror) left: u64,
    /// Whether upstream has answered.
    pub(in crate::mirror) begun: bool,
    /// Whether more than one connection may be used.
    pub(in crate::mirror) parallel: bool,
    /// Whether more than one was.
    pub(in crate::mirror) helped: bool,
    /// Bytes from the blob's attempt that are in the file, and where the last one there ends.
    pub(in crate::mirror) written: u64,
    pub(in crate::mirror) written_end: u64,
    pub(in crate::mirror) endpoints: Vec<usize>,
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
    pub(in crate::mirror) async fn lead(
        self: Arc<Self>,
        registry: Arc<Registry>,
        scope: Scope,
        fill: Arc<Fill>,
        may_be_stored: bool,
    ) {
        let _running = Running::new(&self.metrics, ByAuthority::of(registry.name()));
        let mut guard = super::in_flight::InFlightGuard::new(&self.in_flight, &scope.authority, fill);
        if may_be_stored && self.is_stored(&scope, guard.fill().digest).await {
            guard.fill().fail(PullError::Restarted);
            return;
        }
        let _permit = match self.permit(&registry).await {
            Ok(permit) => permit,
            Err(error) => {
                guard.fill().fail(error);
                return;
            }
        };
        let mut is_first = true;
        for _attempt in 0..MAX_ATTEMPTS {
            let fill = guard.fill();
            match self.begin(&registry, &scope, &fill, is_first).await {
                Ok(()) => return,
                Err(Stop::StartAnew | Stop::Lied) => {
                    is_first = false;
                    let next = Arc::new(Fill::new(fill.digest, scope.clone()));
                    guard.replace(next);
                    fill.fail(PullError::Restarted);
                }
                Err(Stop::Disk(why)) => {
                    self.disk_failed(&why, fill.size_bytes().unwrap_or(0));
                    self.uncacheable.insert(fill.digest, self.clock.now());
                    fill.fail(PullError::Uncacheable(why));
                    return;
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
        guard.fill().fail(registry.client.error_at(0, Failure::BadDigest).into());
    }

    /// Waits for a permit, as long as for an answer. No file is open meanwhile.
    async fn permit(&self, registry: &Registry) -> Result<FillPermit, PullError> {
        let upstream = &registry.client;
        let late = "`max_connections` or `max_fills` downloads are running";
        let waiting_turn = match self.queue.enter(upstream.authority(), upstream.settings().max_connections) {
            Admission::Now(permit) => return Ok(permit),
            Admission::Later(waiting_turn) => waiting_turn,
            Admission::Full => return Err(PullError::Busy),
        };
        tokio::select! {
            permit = tokio::time::timeout_at(upstream.patience(), waiting_turn) => match permit {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) | Err(_) => Err(upstream.error_at(0, Failure::Timeout(late)).into()),
            },
            () = self.stopping.cancelled() => Err(PullError::Internal("this mirror is shutting down".to_owned())),
        }
    }

    async fn begin(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        fill: &Arc<Fill>,
        is_first: bool,
    ) -> Result<(), Stop> {
        let resumes = is_first && self.store.has_leftover(&scope.authority, fill.digest);
        let (partial_file, left, known_size, opened) = if resumes {
            let (partial_file, left, known_size) = self.store.resume(&scope.authority, fill.digest).await?;
            (partial_file, left, known_size, None)
        } else {
            // Neither waits for the other: the file is there when the answer comes.
            let upstream = &registry.client;
            let open = upstream.open_blob(&scope.repository, fill.digest, (0, None), None, upstream.patience());
            let open = async {
                tokio::select! {
                    opened = open => opened.map_err(Stop::from),
                    () = self.stopping.cancelled() => {
                        Err(Stop::Keep(PullError::Internal(format!("{} is shutting down", scope.authority))))
                    }
                }
            };
            let (partial_file, opened) = tokio::join!(self.store.begin(&scope.authority, fill.digest), Box::pin(open));
            let partial_file = partial_file?;
            match opened {
                Ok(opened) => (partial_file, 0, None, Some(opened)),
                Err(stop) => {
                    if let Err(err) = partial_file.discard().await {
                        tracing::warn!(digest = %fill.digest, %err, "a partial file could not be put in order");
                    }
                    return Err(stop);
                }
            }
        };
        let mut attempt = FillAttempt {
            mirror: self,
            registry,
            scope,
            fill,
            partial_file,
            size_bytes: known_size.filter(|_| left > 0),
            left,
            begun: false,
            parallel: is_first,
            helped: false,
            written: left,
            written_end: left,
            endpoints: Vec::new(),
        };
        fill.opening(attempt.partial_file.file());
        match Box::pin(attempt.download(opened)).await {
            Ok(()) => attempt.finish().await,
            Err(stop) => {
                let stop = if matches!(stop, Stop::Lied) { attempt.lied() } else { stop };
                attempt.put_away(&stop).await;
                Err(stop)
            }
        }
    }

    pub(in crate::mirror) async fn is_stored(&self, scope: &Scope, digest: Digest) -> bool {
        match self.index.blob(scope, digest, false).await {
            Ok((Some(row), _)) => matches!(self.open_stored(digest, &row).await, Ok(Some(_))),
            Ok((None, _)) | Err(_) => false,
        }
    }
}

impl FillAttempt<'_> {
    /// What there is of a blob that did not become whole: kept where only the way to it failed, removed where the bytes, or
    /// the disk, are wrong.
    async fn put_away(self, stop: &Stop) {
        let keeps = match stop {
            Stop::Keep(_) => true,
            Stop::Failed(PullError::Upstream(error)) => error.failure != Failure::BadDigest,
            Stop::Failed(_) | Stop::Disk(_) | Stop::StartAnew | Stop::Lied => false,
        };
        let digest = self.fill.digest;
        let cleaned = match (keeps, self.written) {
            // Nothing was added, and nothing was found wrong with what is there.
            (true, _) if !self.begun && self.left > 0 => {
                self.partial_file.leave(self.left);
                Ok(())
            }
            (true, written) if written > 0 => self.partial_file.keep(self.size_bytes, written, self.written_end).await,
            _ => self.partial_file.discard().await,
        };
        if let Err(err) = cleaned {
            tracing::debug!(%digest, %err, "a partial file could not be put in order");
            self.mirror.disk_failed(&disk_failure(&err), 0);
        }
    }

    /// Every endpoint that took part is left alone for this digest. Another one, if there is any, is asked next. Bytes of
    /// an earlier process may be what is wrong, or parts that do not belong together: then nobody is blamed before one try
    /// from zero, over one connection.
    pub(in crate::mirror) fn lied(&self) -> Stop {
        if self.left > 0 {
            tracing::warn!(digest = %self.fill.digest, "a resumed download has a wrong digest; it starts anew");
            return Stop::StartAnew;
        }
        if self.helped {
            tracing::warn!(digest = %self.fill.digest,
                "a download over several connections has a wrong digest; it starts anew over one");
            return Stop::StartAnew;
        }
        let (name, digest) = (self.registry.name(), self.fill.digest);
        self.mirror.metrics.digest_mismatches.get_or_create(&ByAuthority::of(name)).inc();
        for endpoint in &self.endpoints {
            let error = self.registry.client.error_at(*endpoint, Failure::BadDigest);
            tracing::warn!(authority = name, repository = %self.scope.repository, %digest, endpoint = %error.endpoint,
                "upstream sent bytes that are not the blob; nothing of them was kept");
            self.registry.client.distrust(*endpoint, digest);
        }
        Stop::StartAnew
    }

    /// Proof, release of the tail, commit, record.
    async fn finish(self) -> Result<(), Stop> {
        let digest = self.fill.digest;
        if let Err(err) = self.partial_file.prove(self.size_bytes) {
            let stop = match err {
                CommitError::Mismatch { .. } | CommitError::WrongSize { .. } => self.lied(),
                CommitError::NoSpace(_) | CommitError::Io(_) => err.into(),
            };
            self.put_away(&stop).await;
            return Err(stop);
        }
        let size_bytes = self.written;
        self.fill.proven(size_bytes);
        let committed = match self.partial_file.commit(Some(size_bytes)).await {
            Ok(committed) => committed,
            Err(err) => {
                // The readers have what they need; only the next one pays.
                tracing::warn!(%digest, %err, "a verified blob could not be stored");
                if let CommitError::Io(err) = err {
                    self.mirror.disk_failed(&disk_failure(&err), size_bytes);
                }
                self.mirror.uncacheable.insert(digest, self.mirror.clock.now());
                return Ok(());
            }
        };
        self.mirror.disk_works();
        let scopes = self.fill.granted_scopes();
        self.mirror.record_blob(self.registry, digest, scopes, committed).await;
        Ok(())
    }
}

impl Mirror {
    /// Writes down that a committed blob is there, and drops its partial name once that is durable.
    async fn record_blob(
        self: &Arc<Self>,
        registry: &Registry,
        digest: Digest,
        scopes: Vec<Scope>,
        mut committed: Committed,
    ) {
        let now = self.clock.now();
        let row = BlobRow {
            size_bytes: committed.size_bytes,
            origin: Some(registry.client.authority().clone()),
            stored: self.monotonic(now),
        };
        let mut changes = vec![Change::PutBlob { digest, row }];
        changes.extend(scopes.into_iter().map(|scope| Change::GrantBlob {
            scope,
            whole_authority: registry.policy.public,
            digest,
            day: now.day(),
        }));
        // A file that the index did not know was not counted either, as after a power cut.
        // That of another authority's fill is, and its row is on its way.
        let is_alone = self.in_flight.count(digest) <= 1;
        if committed.replaced_bytes > 0 && is_alone && matches!(self.index.blob_row(digest).await, Ok(None)) {
            self.store.count_found(committed.replaced_bytes);
        }
        // Visible first, so that the flight can end; durable in the background.
        if self.index.apply(changes.clone()).await.is_err() {
            self.record_later(digest, changes, committed);
            return;
        }
        committed.recorded();
        self.show_stored();
        let mirror = Arc::clone(self);
        self.tasks.spawn(async move { mirror.forget_partial_when_durable(digest, changes, committed).await });
    }

    pub(in crate::mirror) async fn forget_partial_when_durable(
        &self,
        digest: Digest,
        facts: Vec<Change>,
        committed: Committed,
    ) {
        if committed.replaced_bytes > 0 {
            self.pending.doubt();
        }
        if self.index.durable().await.is_err() {
            self.record_later(digest, facts, committed);
        } else if let Err(err) = committed.unlink_partial().await {
            tracing::debug!(%err, "a partial file's name could not be removed yet");
            self.disk_failed(&disk_failure(&err), 0);
        }
    }
}
