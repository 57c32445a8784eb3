//! Jobs: long work that no client owns. One runner for all kinds, except `verify`, of which there is one at a time.
//!
//! A job has an id, a state, a progress and a result for each item. It goes on when the command that asked for it has
//! left, and ends when it is cancelled or the mirror stops.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};

/// Jobs that have ended and are still told of.
const MAX_ENDED: usize = 50;
/// Jobs that run at one time.
const MAX_RUNNING: usize = 16;
/// Imports at one time: each has memory of its own.
const MAX_IMPORTS: usize = 4;
/// Results that one job keeps. Those of further items are counted only.
const MAX_ITEMS: usize = 200_000;
/// Longest text of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 2000;

/// The jobs of this process.
pub struct Jobs {
    clock: Clock,
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
    is_closed: bool,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Warm,
    Export,
    Import,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    /// Every item was worked on, well or not.
    Done,
    /// It was cancelled, or the mirror stopped.
    Stopped,
    /// It could not go on.
    Failed,
}

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    Done,
    /// It was there already.
    Held,
    /// Some of it is not here, or not in the bundle.
    Missing,
    /// The configuration or the input forbids it.
    Refused,
    /// It did not work, or cannot be told now.
    Failed,
}

/// The result of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobItem {
    pub item: String,
    pub outcome: JobOutcome,
    pub bytes: u64,
    pub problem: Option<String>,
    /// It lacks what another part of the same bundle has: no failure yet.
    #[serde(rename = "waiting", skip_serializing_if = "std::ops::Not::not")]
    pub is_waiting: bool,
}

/// The state of a job as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobReport {
    /// Unique since the start of the server.
    pub id: String,
    pub kind: JobKind,
    pub state: JobState,
    pub begun: Timestamp,
    pub ended: Option<Timestamp>,
    pub bytes: u64,
    /// Zero if it is not known.
    pub bytes_total: u64,
    /// Items that have ended, those of them that failed, and those that wait for another part of a bundle.
    pub items: u64,
    pub failed: u64,
    pub waiting: u64,
    /// `null` if it is not known.
    pub items_total: Option<u64>,
    /// What it does, or waits for.
    pub note: Option<String>,
    /// Why it could not go on.
    pub problem: Option<String>,
    /// Of an export: the sizes of the parts that can be fetched. Bytes.
    pub parts: Vec<u64>,
}

/// A job cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoJob {
    #[error("the server is shutting down")]
    Stopping,
    #[error("{MAX_RUNNING} jobs, or {MAX_IMPORTS} imports, run already; cancel one, or wait for one to end")]
    TooMany,
}

impl JobItem {
    pub fn new(item: impl Into<String>, outcome: JobOutcome, bytes: u64) -> Self {
        Self { item: item.into(), outcome, bytes, problem: None, is_waiting: false }
    }

    #[must_use]
    pub fn because(mut self, problem: impl std::fmt::Display) -> Self {
        let mut problem = problem.to_string();
        problem.truncate(problem.floor_char_boundary(MAX_PROBLEM_BYTES));
        self.problem = Some(problem);
        self
    }

    const fn is_failed(&self) -> bool {
        !matches!(self.outcome, JobOutcome::Done | JobOutcome::Held) && !self.is_waiting
    }
}

impl Jobs {
    /// `stopping` ends all jobs.
    pub fn new(clock: Clock, stopping: CancellationToken) -> Self {
        Self { clock, stopping, state: Mutex::default(), import_turn: Semaphore::new(1) }
    }

    /// A new job, whose work the caller does.
    pub fn begin(&self, kind: JobKind) -> Result<Arc<RunningJob>, NoJob> {
        let mut state = self.state();
        if state.is_closed || self.stopping.is_cancelled() {
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
        let surplus = state.jobs.iter().filter(|job| job.has_ended()).count().saturating_sub(MAX_ENDED);
        let mut left = surplus;
        state.jobs.retain(|job| {
            let goes = left > 0 && job.has_ended();
            left -= usize::from(goes);
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
        let mut state = self.state();
        state.is_closed = true;
        for job in &state.jobs {
            job.cancel();
        }
    }

    /// The mirror stops.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
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

impl JobKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Export => "export",
            Self::Import => "import",
        }
    }
}

impl RunningJob {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub const fn kind(&self) -> JobKind {
        self.kind
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
        }
    }

    /// Up to `limit` results behind the first `skip`.
    pub fn items(&self, skip: usize, limit: usize) -> Vec<JobItem> {
        self.results().items.iter().skip(skip).take(limit).cloned().collect()
    }

    /// Whether every item is well, and nothing else was wrong.
    pub fn is_good(&self) -> bool {
        self.ended.get().is_some_and(|(state, _, problem)| *state == JobState::Done && problem.is_none())
            && self.results().failed == 0
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

    #[test]
    fn old_jobs_are_forgotten_and_running_ones_are_not() {
        let jobs = Jobs::new(Clock::default(), CancellationToken::new());
        let first = jobs.begin(JobKind::Warm).unwrap();
        for _ in 0..2 * MAX_ENDED {
            jobs.begin(JobKind::Import).unwrap().end(JobState::Done, Timestamp::default(), None);
        }
        assert!(jobs.get(first.id()).is_some() && jobs.list().len() <= MAX_ENDED + 2);
        first.add(JobItem::new("a", JobOutcome::Missing, 0).because("gone"));
        first.end(JobState::Done, Timestamp::default(), None);
        assert!(!first.is_good() && first.report().failed == 1);
        jobs.stop();
        assert_eq!(jobs.begin(JobKind::Warm).err(), Some(NoJob::Stopping));
    }

    #[test]
    fn no_more_jobs_run_than_may() {
        let jobs = Jobs::new(Clock::default(), CancellationToken::new());
        let running: Vec<_> = (0..MAX_RUNNING).map(|_| jobs.begin(JobKind::Warm).unwrap()).collect();
        assert_eq!(jobs.begin(JobKind::Warm).err(), Some(NoJob::TooMany));
        assert!(running.iter().all(|job| !job.has_ended()));
    }
}
