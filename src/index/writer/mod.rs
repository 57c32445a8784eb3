//! The one task that writes. Batches what has gathered; readers see a batch at once, the disk has it half a second later.
//!
//! Each batch goes to the journal beside the blobs, too, which is synced first: it holds all that the index has. When either
//! cannot be written, changes are kept back, the database is opened anew, and what it lost is taken in from the journal.

mod effective_denials;
mod held;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ledger::Ledger;
use super::revocations::Revocation;
use super::{Change, IndexError};
use effective_denials::PendingGrants;
use outage::Outage;

/// Longest time between a change and its durable commit.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Batches that may wait; who adds another waits too.
const QUEUE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Visible,
    /// Durable with the next commit: nobody's answer waits for it.
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
    pub(super) fn start(ledger: Arc<Ledger>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let run = Run {
            ledger,
            waiting: Vec::new(),
            flush_at: None,
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
    ledger: Arc<Ledger>,
    waiting: Vec<Done>,
    flush_at: Option<Instant>,
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
            let due = self.outage.as_ref().map(|outage| outage.try_at).or(self.flush_at);
            tokio::select! {
                received = queue.recv_many(&mut jobs, QUEUE) => {
                    if received == 0 {
                        break;
                    }
                    self.take(jobs).await;
                }
                () = self.ledger.database.suspected.notified(), if self.outage.is_none() => {
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
            self.ledger.revocations.taken(&refused);
        }
        let written = if self.outage.is_some() {
            self.hold(changes).await;
            Err(IndexError::Unavailable)
        } else {
            // Before they are written: whatever becomes of that, the journal may have them.
            for change in &changes {
                self.recent.note(change);
            }
            let (mut changes, mut written) = self.write(changes).await;
            if matches!(written, Err(IndexError::BadRow)) {
                // Nor will it be another time.
                tracing::warn!("facts cannot be put into words; they cost a request each");
                changes.retain(Change::is_denial);
                if !changes.is_empty() {
                    (changes, written) = self.write(changes).await;
                }
            }
            match &written {
                Ok(()) => {}
                Err(IndexError::BadRow) if changes.is_empty() => {}
                // Writing has panicked, and has taken them along.
                Err(err) if changes.is_empty() => self.fail(err, denials).await,
                Err(err) => self.fail(err, changes).await,
            }
            written
        };
        for (until, done) in dones {
            match (&written, until) {
                (Ok(()), Until::DurableSoon | Until::DurableNow) => self.waiting.push(done),
                // Whoever no longer waits does not need to know.
                (Ok(()), Until::Visible) => drop(done.send(Ok(()))),
                (Err(_), _) => drop(done.send(Err(IndexError::Unavailable))),
            }
        }
        if written.is_ok() {
            let soon = Instant::now() + FLUSH_AFTER;
            self.flush_at = Some(if is_urgent { Instant::now() } else { self.flush_at.unwrap_or(soon) });
        }
    }

    /// Gives the changes back: those that cannot be written are not lost.
    async fn write(&self, changes: Vec<Change>) -> (Vec<Change>, Result<(), IndexError>) {
        self.blocking(move |ledger| {
            let written = ledger.write(&changes);
            (changes, written)
        })
        .await
        .unwrap_or_else(|| (Vec::new(), Err(IndexError::Closed)))
    }

    async fn flush(&mut self) {
        self.flush_at = None;
        let flushed = self.blocking(Ledger::flush).await.unwrap_or(Err(IndexError::Closed));
        for done in self.waiting.drain(..) {
            drop(done.send(if flushed.is_ok() { Ok(()) } else { Err(IndexError::Unavailable) }));
        }
        match flushed {
            Ok(()) => self.durable(),
            Err(err) => self.fail(&err, Vec::new()).await,
        }
    }

    /// All that has come in is durable.
    fn durable(&mut self) {
        self.recent.clear();
        self.ledger.revocations.durable();
    }

    /// Has a snapshot taken when the journal has grown long.
    async fn keep_short(&mut self) {
        let is_running = self.snapshot.as_ref().is_some_and(|running| !running.is_finished());
        if self.outage.is_some() || is_running || !self.ledger.is_long() {
            return;
        }
        match self.blocking(Ledger::rotate).await.unwrap_or(Err(IndexError::Closed)) {
            Ok((number, from)) => {
                let ledger = Arc::clone(&self.ledger);
                self.snapshot = Some(tokio::task::spawn_blocking(move || ledger.take_snapshot(number, &from)));
            }
            Err(err) => self.fail(&err, Vec::new()).await,
        }
    }

    async fn end(mut self) {
        self.ledger.stop();
        if let Some(outage) = &mut self.outage {
            outage.pause = Duration::ZERO;
            self.heal().await;
        }
        match &self.outage {
            None => self.flush().await,
            Some(outage) => {
                let facts = outage.held.changes().len() + outage.held.dropped;
                tracing::warn!(facts, "the disk takes no facts: these are asked for again after the next start");
            }
        }
        if let Some(snapshot) = self.snapshot.take() {
            let _ended = snapshot.await;
            if self.outage.is_none() {
                // What it has made whole is known at the next start.
                self.flush().await;
            }
        }
    }

    /// `None` if the work panicked.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Ledger) -> T + Send + 'static) -> Option<T> {
        let ledger = Arc::clone(&self.ledger);
        tokio::task::spawn_blocking(move || work(&ledger)).await.ok()
    }
}
