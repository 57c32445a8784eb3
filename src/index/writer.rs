//! The one task that writes. Batches what has gathered; readers see a batch at once, the disk has it half a second later.

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, Durability};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::stamp::Stamps;
use super::{Change, IndexError};

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

struct Job {
    changes: Vec<Change>,
    until: Until,
    done: oneshot::Sender<Result<(), IndexError>>,
}

pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    stopped: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>, stamps: Arc<Stamps>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        // Not one of the tasks that shutdown waits for: it ends when it is closed, after all of them.
        let stopped = tokio::spawn(run(Written { database, stamps }, queue));
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

/// What is written to, and the counters that tell of it.
#[derive(Clone)]
struct Written {
    database: Arc<Database>,
    stamps: Arc<Stamps>,
}

async fn run(to: Written, mut queue: mpsc::Receiver<Job>) {
    let mut waiting: Vec<oneshot::Sender<Result<(), IndexError>>> = Vec::new();
    let mut flush_at: Option<Instant> = None;
    loop {
        let mut jobs = Vec::new();
        let due = flush_at.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            received = queue.recv_many(&mut jobs, QUEUE) => {
                if received == 0 {
                    break;
                }
                let is_urgent = jobs.iter().any(|job| job.until == Until::DurableNow);
                apply(&to, jobs, &mut waiting).await;
                let soon = Instant::now() + FLUSH_AFTER;
                flush_at = Some(if is_urgent { Instant::now() } else { flush_at.unwrap_or(soon) });
            }
            () = tokio::time::sleep_until(due), if flush_at.is_some() => {}
        }
        if flush_at.is_some_and(|at| Instant::now() >= at) {
            flush(&to, &mut waiting).await;
            flush_at = None;
        }
    }
    flush(&to, &mut waiting).await;
}

async fn apply(to: &Written, jobs: Vec<Job>, waiting: &mut Vec<oneshot::Sender<Result<(), IndexError>>>) {
    let (changes, dones): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.changes, (job.until, job.done))).unzip();
    let result = transact(to, changes, Durability::None).await;
    if let Err(err) = &result {
        tracing::warn!(%err, "facts could not be written; they cost one request upstream each");
    }
    for (until, done) in dones {
        match (&result, until) {
            (Ok(()), Until::DurableSoon | Until::DurableNow) => waiting.push(done),
            // Whoever no longer waits does not need to know.
            (Ok(()), Until::Visible) => drop(done.send(Ok(()))),
            (Err(_), _) => drop(done.send(Err(IndexError::Closed))),
        }
    }
}

async fn flush(to: &Written, waiting: &mut Vec<oneshot::Sender<Result<(), IndexError>>>) {
    let result = transact(to, Vec::new(), Durability::Immediate).await;
    if let Err(err) = &result {
        tracing::warn!(%err, "the index could not be synced; what was learnt lately may be asked again after a restart");
    }
    for done in waiting.drain(..) {
        drop(done.send(if result.is_ok() { Ok(()) } else { Err(IndexError::Closed) }));
    }
}

async fn transact(to: &Written, batches: Vec<Vec<Change>>, durability: Durability) -> Result<(), IndexError> {
    let to = to.clone();
    let work = move || {
        let mut transaction = to.database.begin_write()?;
        transaction.set_durability(durability)?;
        if matches!(durability, Durability::Immediate) {
            // Without it, opening after a kill -9 would walk the whole file.
            transaction.set_quick_repair(true);
        }
        for change in batches.iter().flatten() {
            change.apply(&transaction)?;
        }
        transaction.commit()?;
        // Here, where it happens even if nobody waits for the answer any more.
        batches.iter().flatten().for_each(|change| to.stamps.outdate(change));
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(IndexError::Closed))
}
