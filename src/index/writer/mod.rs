//! The one task that writes. It batches what has gathered: readers see a batch at once, and the log has it on the disk half
//! a second later, or before readers see it where somebody waits for that.
//!
//! When facts cannot be written, changes are kept back, the database is opened anew, and what it lost is replayed.

mod effective_denials;
mod held;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::revocations::Revocation;
use super::view::{View, Written};
use super::{Change, IndexError};
use effective_denials::PendingGrants;
use outage::Outage;

/// Longest time between a change and the sync of its line.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Longest time between a change and its checkpoint in the database. What the log does not keep, as access times, is lost
/// with a crash for so long.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// Batches that may wait; who adds another waits too.
const QUEUE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Visible,
    /// Durable with the next sync: nobody's answer waits for it.
    DurableSoon,
    /// Durable at once: someone has been promised it.
    DurableNow,
}

type Done = oneshot::Sender<Result<(), IndexError>>;

struct Job {
    changes: Vec<Change>,
    until: Until,
    done: Done,
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
            flush_at: None,
            checkpoint_at: None,
            outage: None,
            recent: PendingGrants::default(),
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
    waiting: Vec<Done>,
    flush_at: Option<Instant>,
    checkpoint_at: Option<Instant>,
    outage: Option<Outage>,
    /// Where something was opened that is not durable yet.
    recent: PendingGrants,
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
                    self.take(jobs).await;
                }
                () = self.view.database.suspected.notified(), if self.outage.is_none() => {
                    self.fail(&IndexError::Unavailable, Vec::new()).await;
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
            }
        }
        self.end().await;
    }

    async fn take(&mut self, jobs: Vec<Job>) {
        let is_urgent = jobs.iter().any(|job| job.until == Until::DurableNow);
        let (changes, dones): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.changes, (job.until, job.done))).unzip();
        let changes: Vec<Change> = changes.into_iter().flatten().collect();
        let denials: Vec<Change> = changes.iter().filter(|change| change.is_denial()).cloned().collect();
        for refused in denials.iter().flat_map(Revocation::by) {
            self.view.revocations.taken(&refused);
        }
        let written = if self.outage.is_some() {
            self.hold(changes).await;
            Err(IndexError::Unavailable)
        } else {
            // Before they are written: whatever becomes of that, the log may have them.
            for change in &changes {
                self.recent.note(change);
            }
            let (mut changes, mut written) = self.write(changes, is_urgent).await;
            if matches!(written, Err(IndexError::BadRow)) {
                // Nor will it be another time.
                tracing::warn!("facts cannot be put into words; they cost a request each");
                changes.retain(Change::is_denial);
                if !changes.is_empty() {
                    (changes, written) = self.write(changes, is_urgent).await;
                }
            }
            match &written {
                Ok(Written::Visible) => {}
                Ok(Written::Logged(err)) => self.fail(err, Vec::new()).await,
                Err(IndexError::BadRow) if changes.is_empty() => {}
                // Writing has panicked, and has taken them along.
                Err(err) if changes.is_empty() => self.fail(err, denials).await,
                Err(err) => self.fail(err, changes).await,
            }
            written
        };
        for (until, done) in dones {
            match (&written, until) {
                (Ok(Written::Visible), Until::DurableSoon) if !is_urgent => self.waiting.push(done),
                // A task that no longer waits does not need to know.
                (Ok(Written::Visible), _) | (Ok(Written::Logged(_)), Until::DurableSoon | Until::DurableNow) => {
                    drop(done.send(Ok(())));
                }
                (Ok(Written::Logged(_)), Until::Visible) | (Err(_), _) => {
                    drop(done.send(Err(IndexError::Unavailable)));
                }
            }
        }
        if matches!(written, Ok(Written::Visible)) {
            let now = Instant::now();
            self.checkpoint_at.get_or_insert(now + CHECKPOINT_AFTER);
            if is_urgent {
                self.durable();
            } else {
                self.flush_at.get_or_insert(now + FLUSH_AFTER);
            }
        }
    }

    /// Gives the changes back: those that cannot be written are not lost.
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
            Err(err) => self.fail(&err, Vec::new()).await,
        }
    }

    /// All that has come in is durable.
    fn durable(&mut self) {
        self.flush_at = None;
        for done in self.waiting.drain(..) {
            drop(done.send(Ok(())));
        }
        self.recent.clear();
        self.view.revocations.durable();
    }

    async fn checkpoint(&mut self) {
        self.checkpoint_at = None;
        match self.blocking(View::checkpoint).await.unwrap_or(Err(IndexError::Closed)) {
            Ok(()) => self.durable(),
            Err(err) => self.fail(&err, Vec::new()).await,
        }
    }

    /// Has a snapshot taken when the journal has grown long.
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
            Err(err) => self.fail(&err, Vec::new()).await,
        }
    }

    async fn end(mut self) {
        self.view.stop();
        if let Some(outage) = &mut self.outage {
            outage.pause = Duration::ZERO;
            self.heal().await;
        }
        match &self.outage {
            None => self.checkpoint().await,
            Some(outage) => {
                let facts = outage.held.changes().len() + outage.held.dropped;
                tracing::warn!(facts, "the disk takes no facts: these are asked for again after the next start");
            }
        }
        if let Some(snapshot) = self.snapshot.take() {
            let _ended = snapshot.await;
        }
    }

    /// `None` if the work panicked.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&View) -> T + Send + 'static) -> Option<T> {
        let view = Arc::clone(&self.view);
        tokio::task::spawn_blocking(move || work(&view)).await.ok()
    }
}
