//! Jobs: long work that no client owns. One runner for all kinds, except `verify`, of which there is one at a time.
//!
//! A job has an id, a state, a progress and a result for each item. It goes on when the command that asked for it has
//! left, and ends when it is cancelled or the mirror stops.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::job_report::{Gone, JobItem, JobKind, JobReport, JobState};
use crate::clock::{Clock, Timestamp};

/// Jobs that have ended and are still told of.
const MAX_ENDED: usize = 50;
/// Results of all jobs that have ended. The oldest are forgotten with their jobs.
const MAX_ENDED_ITEMS: usize = 200_000;
/// Jobs that run at one time.
const MAX_RUNNING: usize = 16;
/// Imports at one time: each has memory of its own.
const MAX_IMPORTS: usize = 4;
/// Results that one job keeps. Those of further items are counted only.
const MAX_ITEMS: usize = 200_000;

/// The jobs of this process.
pub struct Jobs {
    clock: Clock,
    /// Cancelled when all jobs have to end.
    stopping: CancellationToken,
    state: Mutex<State>,
    /// Imports record their images one after the other.
    import_turn: Semaphore,
}

#[derive(Default)]
struct State {
    /// In the order in which they began.
    jobs: VecDeque<Arc<RunningJob>>,
    last_id: u64,
}

/// One job.
pub struct RunningJob {
    id: String,
    kind: JobKind,
    begun: Timestamp,
    cancelled: CancellationToken,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    counts: Mutex<Results>,
    ended: OnceLock<(JobState, Timestamp, Option<String>)>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Results {
    items: Vec<JobItem>,
    count: u64,
    failed: u64,
    waiting: u64,
    total: Option<u64>,
    note: Option<String>,
    parts: Vec<u64>,
    evicted: Option<Gone>,
}

/// A job cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoJob {
    #[error("the server is shutting down")]
    Stopping,
    #[error("{MAX_RUNNING} jobs, or {MAX_IMPORTS} imports, run already; cancel one, or wait for one to end")]
    TooMany,
}

impl Jobs {
    pub fn new(clock: Clock) -> Self {
        Self { clock, stopping: CancellationToken::new(), state: Mutex::default(), import_turn: Semaphore::new(1) }
    }

    /// A new job, whose work the caller does.
    pub fn begin(&self, kind: JobKind) -> Result<Arc<RunningJob>, NoJob> {
        let mut state = self.state();
        if self.stopping.is_cancelled() {
            return Err(NoJob::Stopping);
        }
        let running = || state.jobs.iter().filter(|job| !job.has_ended());
        let is_crowded = kind == JobKind::Import && running().filter(|job| job.kind == kind).count() >= MAX_IMPORTS;
        if is_crowded || running().count() >= MAX_RUNNING {
            return Err(NoJob::TooMany);
        }
        let begun = self.clock.now();
        state.last_id = begun.as_millis().max(state.last_id + 1);
        let job = Arc::new(RunningJob {
            id: format!("{}-{}", kind.name(), state.last_id),
            kind,
            begun,
            cancelled: self.stopping.child_token(),
            bytes: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            counts: Mutex::default(),
            ended: OnceLock::new(),
            changed: watch::Sender::new(0),
        });
        state.jobs.push_back(Arc::clone(&job));
        let mut surplus = state.jobs.iter().filter(|job| job.has_ended()).count().saturating_sub(MAX_ENDED);
        let count = |job: &RunningJob| job.results().items.len();
        let mut items: usize = state.jobs.iter().filter(|job| job.has_ended()).map(|job| count(job)).sum();
        state.jobs.retain(|job| {
            let goes = (surplus > 0 || items > MAX_ENDED_ITEMS) && job.has_ended();
            surplus = surplus.saturating_sub(usize::from(goes));
            items -= if goes { count(job) } else { 0 };
            !goes
        });
        Ok(job)
    }

    /// Those that run, and the last ones that have ended; the newest last.
    pub fn list(&self) -> Vec<JobReport> {
        self.state().jobs.iter().map(|job| job.report()).collect()
    }

    pub fn get(&self, id: &str) -> Option<Arc<RunningJob>> {
        self.state().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// Ends all jobs soon, and begins no other.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    pub(super) const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(super) const fn import_turn(&self) -> &Semaphore {
        &self.import_turn
    }

    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningJob {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends it soon. What it has done stays.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        let mut changes = self.watch();
        // In this order: no change is missed.
        while !self.has_ended() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn report(&self) -> JobReport {
        let ended = self.ended.get().cloned();
        let results = self.results();
        JobReport {
            id: self.id.clone(),
            kind: self.kind,
            state: ended.as_ref().map_or(JobState::Running, |(state, ..)| *state),
            begun: self.begun,
            ended: ended.as_ref().map(|(_, at, _)| *at),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            items: results.count,
            failed: results.failed,
            waiting: results.waiting,
            items_total: results.total,
            note: results.note.clone().filter(|_| ended.is_none()),
            problem: ended.and_then(|(_, _, problem)| problem),
            parts: results.parts.clone(),
            evicted: results.evicted,
        }
    }

    /// Up to `limit` results behind the first `skip`.
    pub fn items(&self, skip: usize, limit: usize) -> Vec<JobItem> {
        self.results().items.iter().skip(skip).take(limit).cloned().collect()
    }

    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn expect_bytes(&self, bytes: u64) {
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn expect_items(&self, count: usize) {
        self.results().total = Some(count as u64);
    }

    pub fn note(&self, text: impl Into<String>) {
        self.results().note = Some(text.into());
        self.tell();
    }

    pub fn offer_parts(&self, parts: Vec<u64>) {
        self.results().parts = parts;
        self.tell();
    }

    pub fn set_evicted(&self, gone: Gone) {
        self.bytes.store(gone.evicted_bytes, Ordering::Relaxed);
        self.results().evicted = Some(gone);
        self.tell();
    }

    pub fn add(&self, item: JobItem) {
        {
            let mut results = self.results();
            results.count += 1;
            results.failed += u64::from(item.is_failed());
            results.waiting += u64::from(item.is_waiting);
            if results.items.len() < MAX_ITEMS {
                results.items.push(item);
            }
        }
        self.tell();
    }

    /// The first end stands.
    pub fn end(&self, state: JobState, now: Timestamp, problem: Option<String>) {
        if self.ended.set((state, now, problem)).is_ok() {
            let report = self.report();
            tracing::info!(id = self.id, state = ?report.state, items = report.items, failed = report.failed,
                bytes = report.bytes, error = report.problem, "a job has ended");
        }
        self.tell();
    }

    /// Sees each change from now on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes those who watch.
    pub(super) fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn results(&self) -> std::sync::MutexGuard<'_, Results> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::job_report::JobOutcome;

    #[test]
    fn old_jobs_are_forgotten_and_running_ones_are_not() {
        let jobs = Jobs::new(Clock::default());
        let first = jobs.begin(JobKind::Warm).unwrap();
        for _ in 0..2 * MAX_ENDED {
            jobs.begin(JobKind::Import).unwrap().end(JobState::Done, Timestamp::default(), None);
        }
        assert!(jobs.get(first.id()).is_some() && jobs.list().len() <= MAX_ENDED + 2);
        first.add(JobItem::new("a", JobOutcome::Missing, 0).because("gone"));
        first.end(JobState::Done, Timestamp::default(), None);
        assert!(!first.report().is_good() && first.report().failed == 1);
        jobs.stop();
        assert_eq!(jobs.begin(JobKind::Warm).err(), Some(NoJob::Stopping));
    }

    #[test]
    fn results_of_jobs_that_have_ended_are_kept_up_to_a_number() {
        let jobs = Jobs::new(Clock::default());
        let ended: Vec<_> = (0..3)
            .map(|_| {
                let job = jobs.begin(JobKind::Import).unwrap();
                (0..MAX_ENDED_ITEMS / 2).for_each(|_| job.add(JobItem::new("a", JobOutcome::Done, 0)));
                job.end(JobState::Done, Timestamp::default(), None);
                job
            })
            .collect();
        jobs.begin(JobKind::Warm).unwrap();
        let kept: Vec<bool> = ended.iter().map(|job| jobs.get(job.id()).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn no_more_jobs_run_than_may() {
        let jobs = Jobs::new(Clock::default());
        let running: Vec<_> = (0..MAX_RUNNING).map(|_| jobs.begin(JobKind::Warm).unwrap()).collect();
        assert_eq!(jobs.begin(JobKind::Warm).err(), Some(NoJob::TooMany));
        assert!(running.iter().all(|job| !job.has_ended()));
    }
}
