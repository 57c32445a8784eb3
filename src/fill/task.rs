//! One fill from its turn to its commit: admission, attempts, proof, the cache. It ends the fill in every case.

use std::sync::Arc;

use super::admission::{Admission, FillPermit};
use super::download::{Download, Downloaded, FIRST, Job, Stop};
use super::error::FillError;
use super::in_flight::InFlightGuard;
use super::progress::Fill;
use super::{Fills, Source};
use crate::cache::{Cache, Context, describe_fault};
use crate::index::{BlobRow, Change, GrantBlob, PutBlob, Scope};
use crate::metrics::{ByAuthority, Metrics};
use crate::store::{CommitError, PartialFile};
use crate::upstream::{Failure, OpenedBlob};

/// Attempts of one fill: a resumed one, one from zero, and one per endpoint that lied.
const MAX_ATTEMPTS: u32 = 4;

/// A fill's task.
pub(super) struct FillTask {
    fills: Arc<Fills>,
    source: Arc<Source>,
    scope: Scope,
    guard: InFlightGuard,
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

impl FillTask {
    pub(super) fn new(fills: &Arc<Fills>, source: &Arc<Source>, scope: &Scope, fill: Arc<Fill>) -> Self {
        let guard = InFlightGuard::new(&fills.in_flight, &scope.authority, fill);
        Self { fills: Arc::clone(fills), source: Arc::clone(source), scope: scope.clone(), guard }
    }

    fn cache(&self) -> &Arc<Cache> {
        &self.fills.cache
    }

    fn context(&self) -> &Context {
        &self.fills.cache.context
    }

    /// Runs the fill to its end.
    ///
    /// `may_be_stored`: the request that asked for it found nothing stored, and an earlier fill may have ended since.
    pub(super) async fn run(mut self, may_be_stored: bool) {
        let _running = Running::new(&self.context().metrics, ByAuthority::of(&self.source.facts.name));
        if may_be_stored && self.cache().is_stored(&self.scope, self.guard.fill().digest).await {
            self.guard.fill().fail(FillError::Again);
            return;
        }
        let permit = match self.permit().await {
            Ok(permit) => permit,
            Err(error) => {
                self.guard.fill().fail(error);
                return;
            }
        };
        for attempt in 0..MAX_ATTEMPTS {
            let fill = self.guard.fill();
            match self.attempt(&fill, &permit, attempt == 0).await {
                Ok(()) => return,
                Err(Stop::StartAnew | Stop::Lied) => {
                    let next = Arc::new(fill.again(self.scope.clone()));
                    self.guard.replace(next);
                    fill.fail(FillError::Again);
                }
                Err(Stop::Disk(why)) => {
                    // As much again as came may be wanted of the disk, whatever size upstream claims.
                    let wanted = fill.size_bytes().unwrap_or(0).min(fill.there_bytes().saturating_mul(2) + FIRST);
                    self.cache().report_fault(&why, wanted);
                    self.cache().mark_uncacheable(&self.scope.authority, fill.digest);
                    fill.fail(FillError::PassThrough(why));
                    return;
                }
                Err(Stop::Failed(FillError::PassThrough(_))) if !fill.is_asked() => {
                    // No room without evicting. A client that comes in this moment begins anew, and evicts.
                    fill.fail(FillError::Again);
                    return;
                }
                Err(Stop::Failed(error) | Stop::Keep(error)) => {
                    if matches!(error, FillError::PassThrough(_)) {
                        self.cache().mark_uncacheable(&self.scope.authority, fill.digest);
                    }
                    fill.fail(error);
                    return;
                }
            }
        }
        self.guard.fill().fail(self.source.client.error_at(0, Failure::BadDigest).into());
    }

    /// Waits for its turn, as long as for an answer; what no client has asked for does not wait. No file is open meanwhile.
    async fn permit(&self) -> Result<FillPermit, FillError> {
        let client = &self.source.client;
        let late = "`max_connections` or `max_fills` downloads are running";
        // A client that asks in this moment begins anew.
        let is_asked = self.guard.fill().is_asked();
        let turn = match self.fills.admission.enter(client.authority(), client.settings().max_connections, is_asked) {
            Admission::Now(permit) => return Ok(permit),
            Admission::Later(turn) => turn,
            Admission::Full if !is_asked => return Err(FillError::Again),
            Admission::Full => return Err(FillError::Busy),
        };
        tokio::select! {
            permit = tokio::time::timeout_at(client.answer_deadline(), turn) => match permit {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_made_way)) => Err(FillError::Busy),
                Err(_elapsed) => Err(client.error_at(0, Failure::Crowded(late)).into()),
            },
            () = self.context().stopping.cancelled() => Err(FillError::ShuttingDown),
        }
    }

    /// One attempt: what an earlier one left is gone on with only the first time, as are several connections.
    async fn attempt(&self, fill: &Arc<Fill>, permit: &FillPermit, is_first: bool) -> Result<(), Stop> {
        let Self { source, scope, .. } = self;
        let resumes = is_first && self.cache().store.has_leftover(&scope.authority, fill.digest);
        let (mut partial_file, left, size_bytes, opened) = if resumes {
            let (partial_file, left, size_bytes) = self.cache().store.resume(&scope.authority, fill.digest).await?;
            (partial_file, left, size_bytes.filter(|_| left > 0), None)
        } else {
            let (partial_file, opened) = self.begin(fill).await?;
            (partial_file, 0, None, Some(opened))
        };
        fill.opening(partial_file.file());
        let job = Job { evictor: &self.fills.evictor, source, scope, fill, permit };
        let download = Download::new(job, &mut partial_file, size_bytes, left)?;
        let (ended, downloaded) = Box::pin(download.run(opened, left, is_first)).await;
        let proven = ended.and_then(|()| match partial_file.prove(downloaded.size_bytes) {
            Err(CommitError::Mismatch { .. } | CommitError::WrongSize { .. }) => Err(Stop::Lied),
            proven => proven.map_err(Stop::from),
        });
        match proven {
            Ok(()) => {
                self.commit(fill, partial_file, downloaded.written).await;
                Ok(())
            }
            Err(stop) => {
                let stop = if matches!(stop, Stop::Lied) { self.blame(fill, left, &downloaded) } else { stop };
                self.put_away(fill, partial_file, left, &downloaded, &stop).await;
                Err(stop)
            }
        }
    }

    /// Opens an empty partial file and the first connection. Neither waits for the other.
    async fn begin(&self, fill: &Arc<Fill>) -> Result<(PartialFile, OpenedBlob), Stop> {
        let Self { source, scope, .. } = self;
        let client = &source.client;
        let open = client.open_blob(&scope.repository, fill.digest, (0, None), None, client.answer_deadline());
        let open = async {
            tokio::select! {
                opened = open => opened.map_err(Stop::from),
                () = self.context().stopping.cancelled() => Err(Stop::Keep(FillError::ShuttingDown)),
            }
        };
        let partial_file = self.cache().store.begin(&scope.authority, fill.digest);
        let (partial_file, opened) = tokio::join!(partial_file, Box::pin(open));
        let partial_file = partial_file?;
        match opened {
            Ok(opened) => Ok((partial_file, opened)),
            Err(stop) => {
                if let Err(err) = partial_file.discard().await {
                    tracing::warn!(digest = %fill.digest, error = %err, "a partial file could not be put in order");
                }
                Err(stop)
            }
        }
    }

    /// Keeps an incomplete file where only the way to upstream failed; removes it where the bytes, or the disk, are wrong.
    async fn put_away(&self, fill: &Fill, partial_file: PartialFile, left: u64, downloaded: &Downloaded, stop: &Stop) {
        let keeps = match stop {
            Stop::Keep(_) => true,
            Stop::Failed(FillError::Upstream(error)) => error.failure != Failure::BadDigest,
            Stop::Failed(_) | Stop::Disk(_) | Stop::StartAnew | Stop::Lied => false,
        };
        let Downloaded { size_bytes, written, written_end, .. } = *downloaded;
        let cleaned = if keeps && !downloaded.has_begun && left > 0 {
            // Nothing was added, and nothing was found wrong with what is there.
            partial_file.leave(left);
            Ok(())
        } else if keeps && written > 0 {
            partial_file.keep(size_bytes, written, written_end).await
        } else {
            partial_file.discard().await
        };
        if let Err(err) = cleaned {
            tracing::debug!(digest = %fill.digest, error = %err, "a partial file could not be put in order");
            self.cache().report_fault(&describe_fault(&err), 0);
        }
        if keeps {
            self.cache().store.drop_surplus_leftovers().await;
        }
    }

    /// The bytes are not the blob. Every endpoint that took part is left alone for this digest, and another one, if there
    /// is any, is asked next. Bytes of an earlier process may be what is wrong, or parts that do not belong together: then
    /// nobody is blamed before one try from zero, over one connection.
    fn blame(&self, fill: &Fill, left: u64, downloaded: &Downloaded) -> Stop {
        let digest = fill.digest;
        if left > 0 {
            tracing::warn!(%digest, "a resumed download has a wrong digest; it starts anew");
            return Stop::StartAnew;
        }
        if downloaded.is_helped {
            tracing::warn!(%digest, "a download over several connections has a wrong digest; it starts anew over one");
            return Stop::StartAnew;
        }
        let (client, name) = (&self.source.client, self.source.facts.name.as_str());
        self.context().metrics.digest_mismatches.get_or_create(&ByAuthority::of(name)).inc();
        for endpoint in &downloaded.endpoints {
            let error = client.error_at(*endpoint, Failure::BadDigest);
            tracing::warn!(authority = name, repository = %self.scope.repository, %digest, endpoint = %error.endpoint,
                "upstream sent bytes that are not the blob; nothing of them was kept");
            client.mark_bad(*endpoint, digest);
        }
        Stop::StartAnew
    }

    /// The digest is right: releases the tail, commits the file, hands the blob to the cache.
    async fn commit(&self, fill: &Fill, partial_file: PartialFile, size_bytes: u64) {
        fill.proven(size_bytes);
        let (cache, digest) = (self.cache(), fill.digest);
        let committed = match partial_file.commit(Some(size_bytes)).await {
            Ok(committed) => committed,
            Err(err) => {
                // The readers have what they need; only the next request pays.
                tracing::warn!(%digest, error = %err, "a verified blob could not be stored");
                if let CommitError::Io(err) = err {
                    cache.report_fault(&describe_fault(&err), size_bytes);
                }
                cache.mark_uncacheable(&self.scope.authority, digest);
                return;
            }
        };
        cache.clear_fault();
        let authority = self.source.client.authority();
        let row =
            BlobRow { size_bytes: committed.size_bytes, origin: Some(authority.clone()), stored: cache.access_time() };
        let (day, whole_authority) = (self.context().clock.now().day(), self.source.facts.is_public);
        let grants = fill.granted_scopes().into_iter();
        let grants = grants.map(|scope| Change::from(GrantBlob { scope, whole_authority, digest, day }));
        let facts = std::iter::once(Change::from(PutBlob { digest, row })).chain(grants).collect();
        cache.admit(digest, facts, committed).await;
    }
}
