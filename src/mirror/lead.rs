//! The task behind a fill: from the first request upstream to the committed blob.
//!
//! Announced bytes are never rewritten. A broken connection is resumed by Range; an upstream that ignores Range is read
//! from the start and compared; where it differs, the readers are cut and everything starts anew in another file.

use std::sync::Arc;

use crate::index::{BlobRow, Change, Scope};
use crate::metrics::{ByAuthority, Metrics};
use crate::oci::Digest;
use crate::store::{self, CommitError, Committed, Ingest};
use crate::upstream::{Failure, UpstreamError};

use super::fill::Fill;
use super::outcome::PullError;
use super::{Member, Mirror};

/// Beginnings of one fill: a resumed one, one from zero, and one per endpoint that lied.
const MAX_BEGINNINGS: u32 = 4;

/// How one beginning ended, other than well.
pub(super) enum Stop {
    Failed(PullError),
    /// The disk refused something: who asks is passed through.
    Disk(String),
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
        Self::Disk(disk_failure(&error))
    }
}

/// For the operator.
pub(super) fn disk_failure(error: &std::io::Error) -> String {
    let what = if store::is_no_space(error) { "the disk is full" } else { "the disk failed" };
    format!("{what} ({error})")
}

/// State of one beginning.
pub(super) struct Beginning<'a> {
    pub(super) mirror: &'a Arc<Mirror>,
    pub(super) member: &'a Member,
    pub(super) scope: &'a Scope,
    pub(super) fill: &'a Fill,
    pub(super) ingest: Ingest,
    pub(super) size_bytes: Option<u64>,
    /// Bytes that readers have been promised.
    pub(super) announced: u64,
    pub(super) checkpoint: Option<tokio::task::JoinHandle<()>>,
    pub(super) checkpointed: u64,
    pub(super) endpoints: Vec<usize>,
    /// Bytes of an earlier process, or of a fill that broke: they are hashed before anything is added.
    pub(super) left: u64,
    /// Space set aside.
    pub(super) reserved: u64,
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
                Err(Stop::Disk(why)) => {
                    self.disk_failed(&why);
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

impl Beginning<'_> {
    /// What there is of a blob that did not become whole: kept where only the way to it failed, removed where the bytes, or
    /// the disk, are wrong.
    async fn put_away(self, stop: &Stop) {
        let keeps = match stop {
            Stop::Keep(_) => true,
            Stop::Failed(PullError::Upstream(error)) => error.failure != Failure::BadDigest,
            Stop::Failed(_) | Stop::Disk(_) | Stop::StartAnew => false,
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
            tracing::debug!(%digest, %err, "a partial file could not be put in order");
            self.mirror.disk_failed(&disk_failure(&err));
        }
    }

    /// Every endpoint that took part is left alone for this digest. Another one, if there is any, is asked next. Bytes of
    /// an earlier process may be what is wrong: then nobody is blamed before one try from zero.
    pub(super) fn lied(&self) -> Stop {
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
                if let CommitError::Io(err) = err {
                    self.mirror.disk_failed(&disk_failure(&err));
                }
                self.mirror.uncacheable.insert(digest, self.mirror.clock.now());
                return Ok(());
            }
        };
        self.mirror.disk_works();
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
        // A file that the index did not know was not counted either, as after a power cut.
        // That of another authority's fill is, and its row is on its way.
        let is_alone = self.flights.count(digest) <= 1;
        if committed.replaced_bytes > 0 && is_alone && matches!(self.index.blob_row(digest).await, Ok(None)) {
            self.store.count_found(committed.replaced_bytes);
        }
        // Visible first, so that the flight can end; durable in the background.
        if self.index.apply(changes.clone()).await.is_err() {
            return;
        }
        self.show_stored();
        let mirror = Arc::clone(self);
        self.tasks.spawn(async move { mirror.forget_partial_when_durable(committed).await });
    }

    pub(super) async fn forget_partial_when_durable(&self, committed: Committed) {
        if self.index.settled().await.is_ok()
            && let Err(err) = committed.unlink_partial().await
        {
            tracing::debug!(%err, "a partial file's name could not be removed yet");
            self.disk_failed(&disk_failure(&err));
        }
    }
}
