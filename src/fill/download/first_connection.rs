//! One attempt of a fill: its first connection, opened again where it broke. It alone decides whether the fill fails.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::Ended;
use super::helpers::SameBlob;
use super::segments::Assignment;
use super::{Download, Stop};
use crate::upstream::{Failure, OpenedBlob, UpstreamError};

/// Connections that broke in a row without a byte more in the file.
const MAX_FRUITLESS: u32 = 5;
/// Until it is looked again whether there is something to fetch.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// 0.2 s to 3.2 s.
fn backoff(fruitless: u32) -> Duration {
    Duration::from_millis(100) * 2_u32.saturating_pow(fruitless).min(32)
}

/// The outcome of the first answer.
pub(super) struct Begun {
    pub(super) opened: OpenedBlob,
    pub(super) assignment: Assignment,
    pub(super) same: Option<SameBlob>,
}

/// The first connection, opened again where it broke.
pub(super) struct FirstConnection<'d, 'a> {
    download: &'d Download<'a>,
    /// Bytes of an earlier process, or of a fill that broke.
    left: u64,
    /// The upstream has answered.
    begun: bool,
    avoid: Option<usize>,
    fruitless: u32,
    away_since: Instant,
}

impl<'d, 'a> FirstConnection<'d, 'a> {
    pub(super) fn new(download: &'d Download<'a>, left: u64) -> Self {
        Self { download, left, begun: false, avoid: None, fruitless: 0, away_since: Instant::now() }
    }

    /// Whether upstream has answered.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) async fn open_first(&mut self) -> Result<Begun, Stop> {
        let size = self.download.segments().size();
        // One byte of a complete file is asked again: it shows that this scope may have the blob.
        let from = size.map_or(self.left, |size| self.left.min(size.saturating_sub(1)));
        let opened = tokio::select! {
            opened = self.open(from, None) => opened,
            () = self.download.abort.cancelled() => return Err(self.download.reason()),
        };
        match opened {
            Ok(opened) => self.begin(opened).await,
            Err(error) if is_about_the_range(from, &error) => Err(self.start_anew(&error)),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn begin(&mut self, opened: OpenedBlob) -> Result<Begun, Stop> {
        self.learn_size(&opened).await?;
        self.begun = true;
        let (size, assignment) = {
            let mut segments = self.download.segments();
            let size = segments.size();
            let end = size.unwrap_or(u64::MAX).max(self.left);
            let nothing =
                || Assignment { id: u32::MAX, range: end..end, stop: tokio_util::sync::CancellationToken::new() };
            (size, segments.next_free(1).unwrap_or_else(nothing))
        };
        self.download.job.fill.begun(size);
        self.download.announce(0..self.left);
        self.download.look_whether_complete();
        let same = size.map(|size_bytes| SameBlob { endpoint: opened.endpoint, size_bytes, etag: opened.etag.clone() });
        Ok(Begun { opened, assignment, same })
    }

    /// Until there is nothing more to fetch.
    pub(super) async fn run(&mut self, opened: OpenedBlob, assignment: Assignment) -> Result<(), Stop> {
        let mut next = Some((opened, assignment));
        loop {
            let (opened, assignment) = match next.take() {
                Some(first) => first,
                None => match self.next().await? {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
            let endpoint = opened.endpoint;
            let before = self.download.segments().written_bytes();
            self.download.take_part(endpoint);
            let ended = Box::pin(self.download.stream(opened, &assignment, true)).await;
            let is_brought = {
                let mut segments = self.download.segments();
                let end = segments.end_of(assignment.id);
                segments.release(assignment.id);
                move |position| position >= end
            };
            let failure = match ended? {
                Ended::Done => {
                    self.progressed(before);
                    continue;
                }
                Ended::Stopped => return Err(self.download.reason()),
                Ended::Whole(position) => {
                    if self.download.segments().size().is_none() {
                        return self.download.learn_size(position);
                    }
                    if is_brought(position) && !assignment.range.is_empty() {
                        self.progressed(before);
                        continue;
                    }
                    if self.download.segments().is_complete() {
                        return Ok(());
                    }
                    Failure::Broken("its body ended early".to_owned())
                }
                Ended::Broken(failure) => failure,
            };
            if self.download.segments().is_complete() {
                return Ok(());
            }
            self.fruitless += 1;
            self.progressed(before);
            self.away_since = Instant::now();
            tracing::debug!(digest = %self.download.job.fill.digest, error = %failure, "a download broke");
            if self.fruitless >= MAX_FRUITLESS || self.download.segments().size().is_none() {
                return Err(self.download.job.source.client.error_at(endpoint, failure).into());
            }
            self.avoid = Some(endpoint);
            if self.fruitless > 0 {
                self.pause(backoff(self.fruitless)).await?;
            }
        }
    }

    fn progressed(&mut self, before: u64) {
        if self.download.segments().written_bytes() > before {
            self.fruitless = 0;
        }
    }

    /// Finds what is to be fetched next, and opens it; `None` when all is there.
    async fn next(&mut self) -> Result<Option<(OpenedBlob, Assignment)>, Stop> {
        loop {
            if self.download.segments().is_complete() {
                return Ok(None);
            }
            if self.download.abort.is_cancelled() {
                return Err(self.download.reason());
            }
            let parallelism =
                if self.download.is_helped() { self.download.job.source.client.settings().segments } else { 1 };
            let assignment = {
                let mut segments = self.download.segments();
                segments.next_free(parallelism).or_else(|| segments.steal(parallelism))
            };
            let Some(assignment) = assignment else {
                tokio::select! {
                    () = self.download.freed.notified() => {}
                    () = self.download.complete.cancelled() => {}
                    () = self.download.abort.cancelled() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
                continue;
            };
            if let Some(opened) = self.open_assignment(&assignment).await? {
                return Ok(Some((opened, assignment)));
            }
            self.download.segments().release(assignment.id);
        }
    }

    /// `None` if it was taken away meanwhile, or the upstream was away and has been waited for.
    async fn open_assignment(&mut self, assignment: &Assignment) -> Result<Option<OpenedBlob>, Stop> {
        let end = Some(assignment.range.end).filter(|end| self.download.segments().size() != Some(*end));
        let opened = tokio::select! {
            opened = self.open(assignment.range.start, end) => opened,
            () = assignment.stop.cancelled() => return Ok(None),
            () = self.download.complete.cancelled() => return Ok(None),
            () = self.download.abort.cancelled() => return Err(self.download.reason()),
        };
        let error = match opened {
            Ok(opened) => {
                self.learn_size(&opened).await?;
                return Ok(Some(opened));
            }
            Err(error) => error,
        };
        // An endpoint that cannot give the rest may still give the whole.
        if is_about_the_range(assignment.range.start, &error) {
            return Err(self.start_anew(&error));
        }
        let patient = self.away_since.elapsed() < self.download.job.source.client.settings().idle_timeout;
        let has_announced = self.begun && self.download.segments().written_bytes() > 0;
        if !has_announced || !error.failure.tries_next_endpoint() || !patient {
            return Err(error.into());
        }
        self.fruitless += 1;
        let mut pause = backoff(self.fruitless);
        if let Failure::BreakerOpen { retry_after, .. } = error.failure {
            // The mirror's own breaker must not end a download that would outlast the outage.
            pause = retry_after;
        }
        self.pause(pause).await?;
        Ok(None)
    }

    async fn open(&self, from: u64, end: Option<u64>) -> Result<OpenedBlob, UpstreamError> {
        let (upstream, digest) = (&self.download.job.source.client, self.download.job.fill.digest);
        upstream
            .open_blob(&self.download.job.scope.repository, digest, (from, end), self.avoid, upstream.answer_deadline())
            .await
    }

    fn start_anew(&self, error: &UpstreamError) -> Stop {
        tracing::debug!(digest = %self.download.job.fill.digest, %error, "a download cannot be resumed");
        Stop::StartAnew
    }

    async fn pause(&self, pause: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.download.complete.cancelled() => Ok(()),
            () = self.download.abort.cancelled() => Err(self.download.reason()),
        }
    }

    /// The size from the answer, or from a HEAD; another size than before means another blob.
    async fn learn_size(&mut self, opened: &OpenedBlob) -> Result<(), Stop> {
        let download = self.download;
        let known = download.segments().size();
        let stated = match (opened.size_bytes, known) {
            (None, None) => {
                let upstream = &download.job.source.client;
                let probe = upstream.probe_blob(
                    &download.job.scope.repository,
                    download.job.fill.digest,
                    upstream.answer_deadline(),
                );
                probe.await.ok().flatten()
            }
            (stated, _) => stated,
        };
        match (stated, known) {
            (Some(stated), Some(known)) if stated != known => {
                tracing::warn!(digest = %download.job.fill.digest, endpoint = opened.endpoint, known, stated, "a blob changed its size upstream");
                Err(Stop::StartAnew)
            }
            (Some(stated), None) if stated < self.left => {
                tracing::warn!(digest = %download.job.fill.digest, endpoint = opened.endpoint, left = self.left, stated, "a blob is smaller than what an earlier download left of it");
                Err(Stop::StartAnew)
            }
            (Some(stated), None) => {
                download.begin_room(Some(stated)).await?;
                download.segments().learn_size(stated);
                Ok(())
            }
            // A resumed fill knows its size, and has reserved nothing yet.
            (_, Some(known)) => download.begin_room(Some(known)).await,
            (None, None) => download.begin_room(None).await,
        }
    }
}

/// A refusal that may be of the range, and not of the blob.
fn is_about_the_range(from: u64, error: &UpstreamError) -> bool {
    from > 0 && matches!(error.failure, Failure::RangeNotThere | Failure::Refused(_))
}
