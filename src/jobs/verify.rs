//! Verify on demand, one pass at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::Serialize;

use crate::cache::Cache;
use crate::cache::scrub::{self, Rate, VerifyProgress, VerifyReport};
use crate::clock::{Clock, Timestamp};

/// The running pass, or the last one since the start.
pub struct VerifyJobs {
    /// Weak, so that a job does not keep a closed storage alive.
    cache: Weak<Cache>,
    clock: Clock,
    /// Bytes a second, for requests without a rate.
    rate: Option<u64>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    run: Option<Arc<Run>>,
    is_closed: bool,
}

struct Run {
    begun: Timestamp,
    rate: Option<u64>,
    bytes_total: u64,
    progress: VerifyProgress,
    report: OnceLock<VerifyReport>,
}

/// The state of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Unique since the start of the server.
    pub id: String,
    pub state: State,
    pub begun: Timestamp,
    /// Bytes a second; `None` is as fast as the disk reads.
    pub rate: Option<u64>,
    pub blobs: u64,
    pub bytes: u64,
    /// Bytes stored when the pass began.
    pub bytes_total: u64,
    /// Blobs with wrong bytes.
    pub wrong: u64,
    /// Recorded blobs without a file.
    pub missing: u64,
    /// The result, once the pass has ended.
    pub report: Option<VerifyReport>,
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// Every blob was read.
    Done,
    /// It ended early: the server stopped, or the pass failed.
    Stopped,
}

/// The answer to a request for a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Started {
    /// False if a pass was running already; `job` is then that one, at its own rate.
    pub started: bool,
    pub job: Job,
}

impl VerifyJobs {
    /// `rate` in bytes a second is for requests without one.
    pub fn new(cache: &Arc<Cache>, clock: Clock, rate: Option<u64>) -> Self {
        Self { cache: Arc::downgrade(cache), clock, rate, slot: Mutex::default() }
    }

    /// Starts a pass, or joins the one that runs. `None` at shutdown.
    pub async fn start(&self, rate: Option<Rate>) -> Option<Started> {
        let cache = self.cache.upgrade()?;
        let bytes_total = cache.counts().await.map_or(0, |counts| counts.stored_bytes);
        let rate = rate.map_or(self.rate, Rate::bytes_per_second);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_closed {
            return None;
        }
        if let Some(running) = slot.run.as_ref().filter(|run| run.report.get().is_none()) {
            return Some(Started { started: false, job: running.job() });
        }
        // The time is the id too, so two passes must not have the same.
        let earliest = slot.run.as_ref().map_or(0, |last| last.begun.as_millis() + 1);
        let begun = Timestamp::from_millis(self.clock.now().as_millis().max(earliest));
        let progress = VerifyProgress::default();
        let run = Arc::new(Run { begun, rate, bytes_total, progress, report: OnceLock::new() });
        slot.run = Some(Arc::clone(&run));
        let job = run.job();
        tokio::spawn(run.run(cache));
        Some(Started { started: true, job })
    }

    /// The running pass or the last one; `None` if there was none since the start.
    pub fn job(&self) -> Option<Job> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.run.as_ref().map(|run| run.job())
    }

    /// Ends the running pass soon, and starts no other.
    pub fn stop(&self) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_closed = true;
        if let Some(run) = &slot.run {
            run.progress.stop();
        }
    }
}

impl Run {
    async fn run(self: Arc<Self>, cache: Arc<Cache>) {
        let this = Arc::clone(&self);
        let pass = tokio::spawn(async move { scrub::verify(&cache, this.rate, &this.progress).await });
        // A pass that panicked is an incomplete one.
        let report = pass.await.unwrap_or_default();
        tracing::info!(
            id = self.id(),
            blobs = report.blobs,
            bytes = report.bytes,
            wrong = report.wrong.len(),
            missing = report.missing.len(),
            lost = report.lost.len(),
            unreadable = report.unreadable.len(),
            complete = report.complete,
            "the verify that was asked for has ended"
        );
        let _set_once = self.report.set(report);
    }

    fn id(&self) -> String {
        format!("verify-{}", self.begun.as_millis())
    }

    fn job(&self) -> Job {
        let report = self.report.get().cloned();
        let state = match &report {
            None => State::Running,
            Some(report) if report.complete => State::Done,
            Some(_) => State::Stopped,
        };
        Job {
            id: self.id(),
            state,
            begun: self.begun,
            rate: self.rate,
            blobs: self.progress.blobs.load(Ordering::Relaxed),
            bytes: self.progress.bytes.load(Ordering::Relaxed),
            bytes_total: self.bytes_total,
            wrong: self.progress.wrong.load(Ordering::Relaxed),
            missing: self.progress.missing.load(Ordering::Relaxed),
            report,
        }
    }
}
