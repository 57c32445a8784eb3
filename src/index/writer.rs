//! The one task that writes. It batches what has gathered: readers see a batch at once, and the log has it on the disk half
//! a second later, or before readers see it if a caller waits for that.
//!
//! When facts cannot be written, see [`super::outage`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::outage::{LONGEST_PAUSE, Outage};
use super::view::{View, Written};
use super::{Change, IndexError};
use crate::health::Part;

/// Longest time between a change and the sync of its line.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Longest time between a change and its checkpoint in the database. The log does not keep access times and marks of pins: a
/// crash loses those of so long.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// Batches that may wait; a task that adds another waits too.
const QUEUE: usize = 1024;
/// Rows written in one transaction, about, unless a batch has more by itself: readers of other batches need not wait for
/// thousands, and their lines are in memory together.
const STEP: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Visible,
    /// Durable with the next sync: no answer waits for it.
    DurableSoon,
    /// Durable at once: a caller waits for it.
    DurableNow,
    /// Durable in the log, and then in the database, with all that the log does not keep.
    Checkpoint,
}

type Done = oneshot::Sender<Result<(), IndexError>>;

struct Job {
    changes: Vec<Change>,
    until: Until,
    done: Done,
}

impl Job {
    /// Whether it is written even where a batch cannot be.
    fn is_denial(&self) -> bool {
        self.changes.iter().all(Change::is_denial)
    }

    fn weight(&self) -> usize {
        self.changes.iter().map(Change::weight).sum()
    }
}

/// Takes the first of these jobs that go into one transaction.
fn step(jobs: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut taken, mut weight) = (Vec::new(), 0);
    while let Some(job) = jobs.pop_front_if(|job| {
        weight += job.weight();
        weight <= STEP
    }) {
        taken.push(job);
    }
    if taken.is_empty() { jobs.pop_front().into_iter().collect() } else { taken }
}

pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    stopped: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(view: Arc<View>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let run = Run {
            view,
            waiting: Vec::new(),
            checkpointing: Vec::new(),
            flush_at: None,
            checkpoint_at: None,
            outage: None,
            snapshot: None,
        };
        // Not one of the tasks that shutdown waits for: it ends when it is closed, after all of them.
        let stopped = tokio::spawn(run.run(queue));
        Self { jobs: Mutex::new(Some(jobs)), stopped: Mutex::new(Some(stopped)) }
    }

    pub(super) async fn apply(&self, changes: Vec<Change>, until: Until) -> Result<(), IndexError> {
        let jobs = self.jobs.lock().await.clone().ok_or(IndexError::Closed)?;
        let (done, result) = oneshot::channel();
        jobs.send(Job { changes, until, done }).await.map_err(|_closed| IndexError::Closed)?;
        drop(jobs);
        result.await.unwrap_or(Err(IndexError::Closed))
    }

    pub(super) async fn close(&self) {
        drop(self.jobs.lock().await.take());
        if let Some(stopped) = self.stopped.lock().await.take() {
            // A writer that panicked has nothing left to write.
            let _panicked = stopped.await;
        }
    }
}

struct Run {
    view: Arc<View>,
    /// Answered when the log is synced.
    waiting: Vec<Done>,
    /// Answered when the database is durable.
    checkpointing: Vec<Done>,
    flush_at: Option<Instant>,
    checkpoint_at: Option<Instant>,
    outage: Option<Outage>,
    snapshot: Option<JoinHandle<()>>,
}

impl Run {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        self.keep_short().await;
        loop {
            let mut jobs = Vec::new();
            let flush_at = self.flush_at.into_iter().chain(self.checkpoint_at).min();
            let due = self.outage.as_ref().map(|outage| outage.try_at).or(flush_at);
            tokio::select! {
                received = queue.recv_many(&mut jobs, QUEUE) => {
                    if received == 0 {
                        break;
                    }
                    let mut jobs = VecDeque::from(jobs);
                    while !jobs.is_empty() {
                        self.take(step(&mut jobs)).await;
                        if self.outage.is_none() && self.view.needs_flush() {
                            self.flush().await;
                        }
                    }
                }
                () = self.view.database.suspected.notified(), if self.outage.is_none() => {
                    self.fail(&IndexError::Unavailable, &[]).await;
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            if self.outage.as_ref().is_some_and(|outage| Instant::now() >= outage.try_at) {
                self.heal().await;
            }
            if self.flush_at.is_some_and(|at| Instant::now() >= at) {
                self.flush().await;
                self.keep_short().await;
            }
            if self.checkpoint_at.is_some_and(|at| Instant::now() >= at)
                || (self.outage.is_none() && self.view.needs_checkpoint())
            {
                self.checkpoint().await;
                self.keep_short().await;
            }
        }
        self.end().await;
    }

    async fn take(&mut self, jobs: Vec<Job>) {
        let is_urgent = jobs.iter().any(|job| matches!(job.until, Until::DurableNow | Until::Checkpoint));
        let (changes, dones): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|job| (job.is_denial(), job))
            .map(|(is_denial, job)| (job.changes, (job.until, is_denial, job.done)))
            .unzip();
        let changes: Vec<Change> = changes.into_iter().flatten().collect();
        let denials: Vec<Change> = changes.iter().filter(|change| change.is_denial()).cloned().collect();
        for refused in denials.iter().flat_map(Change::revocations) {
            self.view.revocations.taken(&refused);
        }
        let mut only_denials = false;
        let written = if self.outage.is_some() {
            self.keep(&changes).await;
            Err(IndexError::Unavailable)
        } else {
            let (mut changes, mut written) = self.write(changes, is_urgent).await;
            if matches!(written, Err(IndexError::BadRow)) {
                // It could not be written another time either.
                tracing::warn!("facts cannot be put into words; they cost a request each");
                only_denials = true;
                changes.retain(Change::is_denial);
                if !changes.is_empty() {
                    (changes, written) = self.write(changes, is_urgent).await;
                }
            }
            match &written {
                Ok(Written::Visible) => {}
                Ok(Written::Logged(err)) => self.fail(err, &[]).await,
                Err(IndexError::BadRow) if changes.is_empty() => {}
                // Writing has panicked, and has taken them along.
                Err(err) if changes.is_empty() => self.fail(err, &denials).await,
                Err(err) => self.fail(err, &changes).await,
            }
            written
        };
        for (until, is_denial, done) in dones {
            match (&written, until) {
                _ if only_denials && !is_denial => drop(done.send(Err(IndexError::BadRow))),
                (Ok(Written::Visible), Until::Checkpoint) => self.checkpointing.push(done),
                (Ok(Written::Visible), Until::DurableSoon) if !is_urgent => self.waiting.push(done),
                // A task that no longer waits does not need to know.
                (Ok(Written::Visible), _) | (Ok(Written::Logged(_)), Until::DurableSoon | Until::DurableNow) => {
                    drop(done.send(Ok(())));
                }
                (Ok(Written::Logged(_)), Until::Visible | Until::Checkpoint) | (Err(_), _) => {
                    drop(done.send(Err(IndexError::Unavailable)));
                }
            }
        }
        if matches!(written, Ok(Written::Visible)) {
            let now = Instant::now();
            // A database that fails is read as its last checkpoint left it: what was revoked must not come back with it.
            let within = if !self.checkpointing.is_empty() {
                Duration::ZERO
            } else if self.view.revocations.is_empty() {
                CHECKPOINT_AFTER
            } else {
                FLUSH_AFTER
            };
            self.checkpoint_at = Some(self.checkpoint_at.map_or(now + within, |at| at.min(now + within)));
            if is_urgent {
                self.durable();
            } else {
                self.flush_at.get_or_insert(now + FLUSH_AFTER);
            }
        }
    }

    /// Gives the changes back, for those that must be kept.
    async fn write(&self, changes: Vec<Change>, is_durable: bool) -> (Vec<Change>, Result<Written, IndexError>) {
        self.blocking(move |view| {
            let written = view.write(&changes, is_durable);
            (changes, written)
        })
        .await
        .unwrap_or_else(|| (Vec::new(), Err(IndexError::Closed)))
    }

    async fn flush(&mut self) {
        match self.blocking(View::flush).await.unwrap_or(Err(IndexError::Closed)) {
            Ok(()) => self.durable(),
            Err(err) => self.fail(&err, &[]).await,
        }
    }

    /// The log has all that has come in, synced.
    fn durable(&mut self) {
        self.flush_at = None;
        for done in self.waiting.drain(..) {
            drop(done.send(Ok(())));
        }
    }

    /// The database has it too.
    fn checkpointed(&mut self) {
        self.durable();
        for done in self.checkpointing.drain(..) {
            drop(done.send(Ok(())));
        }
        self.view.revocations.durable();
    }

    async fn checkpoint(&mut self) {
        self.checkpoint_at = None;
        match self.blocking(View::checkpoint).await.unwrap_or(Err(IndexError::Closed)) {
            Ok(()) => self.checkpointed(),
            Err(err) => self.fail(&err, &[]).await,
        }
    }

    /// Has a snapshot taken when the log has grown long.
    async fn keep_short(&mut self) {
        let is_running = self.snapshot.as_ref().is_some_and(|running| !running.is_finished());
        if self.outage.is_some() || is_running || !self.view.is_long() {
            return;
        }
        match self.blocking(View::rotate).await.unwrap_or(Err(IndexError::Closed)) {
            Ok((number, from)) => {
                let view = Arc::clone(&self.view);
                self.snapshot = Some(tokio::task::spawn_blocking(move || view.take_snapshot(number, &from)));
            }
            Err(err) => self.fail(&err, &[]).await,
        }
    }

    async fn end(mut self) {
        self.view.stop();
        if let Some(outage) = &mut self.outage {
            outage.pause = Duration::ZERO;
            self.heal().await;
        }
        if self.outage.is_none() {
            self.checkpoint().await;
        } else {
            tracing::warn!("the disk takes no facts: those of the last minutes are asked for again");
        }
        if let Some(snapshot) = self.snapshot.take() {
            let _ended = snapshot.await;
        }
    }

    async fn fail(&mut self, err: &IndexError, changes: &[Change]) {
        self.report(err);
        (self.flush_at, self.checkpoint_at) = (None, None);
        for done in self.waiting.drain(..).chain(self.checkpointing.drain(..)) {
            drop(done.send(Err(IndexError::Unavailable)));
        }
        let outage = Outage::new(err);
        self.view.is_behind.store(outage.is_behind, Ordering::Release);
        self.outage = Some(outage);
        self.keep(changes).await;
    }

    fn report(&self, err: &IndexError) {
        let why = format!("facts cannot be written ({err}); they are asked for again when the disk takes them");
        if self.view.health.degrade(Part::Index, why) {
            tracing::warn!(error = %err, "facts cannot be written; pulls go on, and the index heals when the disk does");
        }
    }

    async fn keep(&mut self, changes: &[Change]) {
        let Some(outage) = &mut self.outage else { return };
        let is_read = !outage.is_behind && changes.iter().any(Change::is_denial);
        let mut effective = Vec::new();
        if is_read {
            let (view, denials) = (Arc::clone(&self.view), changes.to_vec());
            let read = tokio::task::spawn_blocking(move || view.effective(&denials)).await;
            // All of them count as effective if that cannot be told.
            effective = read.unwrap_or(Err(IndexError::Closed)).unwrap_or_default();
        }
        outage.keep(changes, &effective, &self.view);
    }

    async fn heal(&mut self) {
        let Some(mut outage) = self.outage.take() else { return };
        let changes: Vec<Change> =
            outage.kept.iter().cloned().chain(self.view.revocations.pending().into_iter().map(Change::from)).collect();
        let (kept, is_behind, is_closed) = (changes.len(), outage.is_behind, outage.is_closed);
        let healed = self.blocking(move |view| {
            let mut is_closed = is_closed;
            let healed = view.heal(&changes, is_behind, &mut is_closed);
            (is_closed, healed)
        });
        let (is_closed, healed) = healed.await.unwrap_or((true, Err(IndexError::Closed)));
        match healed {
            Ok(()) => {
                self.checkpointed();
                if outage.is_behind {
                    // In this order: a task that sees that it is over sees that pins are to be worked out, too.
                    self.view.reopened.fetch_add(1, Ordering::Release);
                    self.view.is_behind.store(false, Ordering::Release);
                    self.view.healed.notify_one();
                }
                if self.view.health.heal(Part::Index) {
                    tracing::info!(kept, "facts are written again");
                }
            }
            Err(err) => {
                self.report(&err);
                if matches!(err, IndexError::BadRow) {
                    // They could not be written another time either.
                    outage.kept.clear();
                }
                outage.is_closed = is_closed;
                outage.is_behind |= is_closed;
                outage.try_at = Instant::now() + outage.pause;
                outage.pause = (outage.pause * 2).min(LONGEST_PAUSE);
                self.view.is_behind.store(outage.is_behind, Ordering::Release);
                self.outage = Some(outage);
            }
        }
    }

    /// `None` if the work panicked.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&View) -> T + Send + 'static) -> Option<T> {
        let view = Arc::clone(&self.view);
        tokio::task::spawn_blocking(move || work(&view)).await.ok()
    }
}
