//! The connections that help the first one of a large fill. Whatever befalls them, the fill goes on.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use tokio::time::{Instant, MissedTickBehavior};

use crate::upstream::{Failure, SpareConnection};

use super::Download;
use super::connection::Ended;
use super::parallelism::{Parallelism, WINDOW};
use super::segments::{Assignment, WORTH_SPLITTING};

/// After so many failures in a row, no further helpers are added.
const MAX_FAILURES: u32 = 4;

/// How a helper ended.
enum Report {
    Done,
    /// It did not bring what it was to bring.
    Broken,
    /// The endpoint does not want so many connections.
    Rationed,
    /// The endpoint's parts cannot be used.
    Useless,
}

/// The blob as the first connection's answer described it.
pub(super) struct SameBlob {
    pub(super) endpoint: usize,
    pub(super) size_bytes: u64,
    pub(super) etag: Option<HeaderValue>,
}

impl Download<'_> {
    /// Calls helpers while that pays, until the download ends.
    pub(super) async fn run_helpers(&self, same: &SameBlob) {
        let most = self.job.source.client.settings().segments;
        if most < 2 || self.segments().missing_bytes() < WORTH_SPLITTING {
            return;
        }
        let mut parallelism = Parallelism::new(most, Instant::now(), self.segments().written_bytes());
        let mut tick = tokio::time::interval_at(Instant::now() + WINDOW, WINDOW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = FuturesUnordered::new();
        let (mut failures, mut counted_for) = (0, 1);
        loop {
            while let Some((assignment, slot)) = self.next_helper(&parallelism, running.len() + 1, same.endpoint) {
                running.push(self.run_helper(assignment, slot, same));
            }
            tokio::select! {
                Some(report) = running.next(), if !running.is_empty() => {
                    match report {
                        Report::Done => failures = 0,
                        Report::Broken => failures += 1,
                        Report::Rationed => parallelism.cap(running.len() + 1),
                        Report::Useless => parallelism.cap(1),
                    }
                    if failures >= MAX_FAILURES {
                        parallelism.cap(running.len() + 1);
                    }
                }
                _ = tick.tick() => {
                    let (now, bytes) = (Instant::now(), self.segments().written_bytes());
                    let at_work = 1 + self.helpers.load(Ordering::Relaxed);
                    self.segments().look();
                    if at_work >= parallelism.target() && counted_for < parallelism.target() {
                        // The window in which they were called says nothing.
                        counted_for = parallelism.target();
                        parallelism.start_window(now, bytes);
                    } else {
                        parallelism.sample(now, bytes, at_work);
                    }
                }
                () = self.job.fill.more_positions() => {}
                () = self.complete.cancelled() => break,
                () = self.abort.cancelled() => break,
            }
        }
        // They see it too; what they are writing has to end before the file is touched by others.
        while running.next().await.is_some() {}
    }

    /// The next helper's assignment, and its connection.
    fn next_helper(
        &self,
        parallelism: &Parallelism,
        in_use: usize,
        endpoint: usize,
    ) -> Option<(Assignment, SpareConnection)> {
        if in_use >= parallelism.most() || self.abort.is_cancelled() {
            return None;
        }
        let wanted = self.job.fill.positions();
        if in_use >= parallelism.target() && wanted.is_empty() {
            return None;
        }
        let slot = SpareConnection::take(&self.job.source.client, endpoint)?;
        let mut segments = self.segments();
        let assignment = segments.next_for_readers(&wanted, parallelism.most());
        let assignment = assignment.or_else(|| {
            let is_wanted = in_use < parallelism.target();
            is_wanted
                .then(|| segments.next_free(parallelism.most()).or_else(|| segments.steal(parallelism.most())))
                .flatten()
        });
        Some((assignment?, slot))
    }

    async fn run_helper(&self, assignment: Assignment, slot: SpareConnection, same: &SameBlob) -> Report {
        let report = tokio::select! {
            report = self.fetch(&assignment, slot, same) => report,
            () = self.idle_until_stopped(&assignment) => Report::Broken,
        };
        self.segments().release(assignment.id);
        self.freed.notify_one();
        report
    }

    /// While nothing is being written, a stop need not wait for the answer: [`Self::stream`] looks after itself.
    async fn idle_until_stopped(&self, assignment: &Assignment) {
        loop {
            tokio::select! {
                () = assignment.stop.cancelled() => {}
                () = self.abort.cancelled() => {}
                () = self.complete.cancelled() => {}
            }
            if !self.segments().has_begun(assignment.id) {
                return;
            }
            std::future::pending::<()>().await;
        }
    }

    async fn fetch(&self, assignment: &Assignment, slot: SpareConnection, same: &SameBlob) -> Report {
        let client = &self.job.source.client;
        let (repository, digest) = (&self.job.scope.repository, self.job.fill.digest);
        let range = assignment.range.clone();
        let opened = slot.open_part(client, repository, digest, range, client.answer_deadline()).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                tracing::debug!(%digest, error = %failure, "one more connection for a download was in vain");
                return match failure {
                    Failure::RateLimited { .. } | Failure::BreakerOpen { .. } | Failure::ServerError(_) => {
                        Report::Rationed
                    }
                    Failure::RangeNotThere | Failure::Refused(_) => Report::Useless,
                    Failure::NotFound
                    | Failure::DeniedAnonymous
                    | Failure::DeniedCredentials
                    | Failure::LoginRefused
                    | Failure::LockedOut
                    | Failure::Unreachable(_)
                    | Failure::Timeout(_)
                    | Failure::Crowded(_)
                    | Failure::UnexpectedStatus(_)
                    | Failure::Broken(_)
                    | Failure::TooLarge { .. }
                    | Failure::HeadRefused
                    | Failure::BadDigest
                    | Failure::Offline
                    | Failure::NoDescriptors => Report::Broken,
                };
            }
        };
        let differs = opened.size_bytes.is_some_and(|size| size != same.size_bytes)
            || matches!((&opened.etag, &same.etag), (Some(one), Some(other)) if one != other);
        if differs {
            tracing::debug!(%digest, "one more connection for a download brought another blob");
            return Report::Useless;
        }
        self.is_helped.store(true, Ordering::Relaxed);
        self.helpers.fetch_add(1, Ordering::Relaxed);
        let ended = self.stream(opened, assignment, false).await;
        self.helpers.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ok(Ended::Done | Ended::Stopped) => Report::Done,
            Ok(Ended::Whole(end)) if end >= self.segments().end_of(assignment.id) => Report::Done,
            Ok(Ended::Whole(_)) => Report::Broken,
            Ok(Ended::Broken(failure)) => {
                tracing::debug!(digest = %self.job.fill.digest, error = %failure, "one of a download's connections broke");
                Report::Broken
            }
            Err(stop) => {
                self.fail(stop);
                Report::Broken
            }
        }
    }
}
