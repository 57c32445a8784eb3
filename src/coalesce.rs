//! Single-flight: concurrent callers with the same key share one piece of work.
//!
//! The work is a separate task, so callers may leave. If it dies by panic or abort, the next waiting caller starts it
//! again, once; no caller waits for ever. Queued work that has not begun ends when all its callers have left, so that
//! departed callers do not fill the queue.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The running pieces of work by key.
pub struct Coalesce<K, V> {
    running: Arc<Mutex<Running<K, V>>>,
    tasks: TaskTracker,
}

type Running<K, V> = HashMap<K, Arc<watch::Sender<Option<V>>>>;

tokio::task_local! {
    /// Whether the work of this task is queued.
    static WAITS: Arc<AtomicBool>;
}

/// Waits in a queue before the work begins. Within shared work, the wait ends, and the work with it, when all its callers
/// have left.
pub async fn queued<T>(permit: impl Future<Output = T>) -> T {
    let waits = WAITS.try_with(Arc::clone).unwrap_or_default();
    waits.store(true, Ordering::Relaxed);
    let permit = permit.await;
    waits.store(false, Ordering::Relaxed);
    permit
}

/// Whether the caller's request started the work or found it running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Led,
    Joined,
}

/// The task that did the work died twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task that did the work ended without a result")]
pub struct LeaderDied;

impl<K, V> Coalesce<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Work runs in `tasks`, which the owner waits for at shutdown.
    pub fn new(tasks: TaskTracker) -> Self {
        Self { running: Arc::default(), tasks }
    }

    /// Joins the work that runs under `key`, or starts it.
    pub async fn run<F, W>(&self, key: K, work: W) -> Result<(V, Role), LeaderDied>
    where
        W: Fn() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        for _attempt in 0..2 {
            let (mut result, role) = self.join_or_start(&key, &work);
            if let Ok(value) = result.wait_for(Option::is_some).await
                && let Some(value) = value.clone()
            {
                return Ok((value, role));
            }
        }
        Err(LeaderDied)
    }

    /// As [`Self::run`], for work that may be done by now: runs `look` again first, and `work` only if it finds nothing.
    pub async fn run_unless<L, LF, F, W>(&self, key: K, look: L, work: W) -> Result<(V, Role), LeaderDied>
    where
        L: Fn() -> LF,
        LF: Future<Output = Option<V>> + Send + 'static,
        W: Fn() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let both = || {
            let (look, work) = (look(), work());
            async move {
                match look.await {
                    Some(known) => known,
                    None => work.await,
                }
            }
        };
        self.run(key, both).await
    }

    /// Resolves when the work that runs under `key` has ended; `None` if none runs.
    pub fn ended(&self, key: &K) -> Option<impl Future<Output = ()> + use<K, V>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = running.get(key)?.subscribe();
        Some(async move {
            let _done_or_died = result.wait_for(Option::is_some).await;
        })
    }

    fn join_or_start<F, W>(&self, key: &K, work: &W) -> (watch::Receiver<Option<V>>, Role)
    where
        W: Fn() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = running.get(key) {
            return (sender.subscribe(), Role::Joined);
        }
        let (sender, result) = watch::channel(None);
        let sender = Arc::new(sender);
        running.insert(key.clone(), Arc::clone(&sender));
        drop(running);
        let entry = Entry { key: key.clone(), running: Arc::clone(&self.running), sender };
        let work = work();
        self.tasks.spawn(async move {
            let entry = entry;
            let Some(value) = entry.unless_deserted(work).await else { return };
            // Leaves the map first, so that later callers see what the work has recorded.
            let sender = Arc::clone(&entry.sender);
            drop(entry);
            sender.send_replace(Some(value));
        });
        (result, Role::Led)
    }
}

/// Removes the key whichever way the task ends.
struct Entry<K: Eq + Hash, V> {
    key: K,
    running: Arc<Mutex<Running<K, V>>>,
    sender: Arc<watch::Sender<Option<V>>>,
}

impl<K: Eq + Hash, V> Entry<K, V> {
    /// The work's result; `None` if all callers left while it was queued.
    async fn unless_deserted(&self, work: impl Future<Output = V>) -> Option<V> {
        let waits = Arc::new(AtomicBool::new(false));
        let mut work = pin!(WAITS.scope(Arc::clone(&waits), work));
        let mut all_left = pin!(self.sender.closed());
        poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            while waits.load(Ordering::Relaxed) && all_left.as_mut().poll(cx).is_ready() {
                if self.leave_if_deserted() {
                    return Poll::Ready(None);
                }
                all_left.set(self.sender.closed());
            }
            Poll::Pending
        })
        .await
    }

    /// Closes the work, so that later callers start anew; `false` if a caller has joined meanwhile.
    fn leave_if_deserted(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_deserted = self.sender.receiver_count() == 0;
        if is_deserted {
            running.remove(&self.key);
        }
        is_deserted
    }
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The key may belong to newer work by now.
        if running.get(&self.key).is_some_and(|sender| Arc::ptr_eq(sender, &self.sender)) {
            running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_result() {
        let coalesce = Coalesce::new(TaskTracker::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let (open, gate) = watch::channel(false);
        let ask = || {
            coalesce.run("key", || {
                let (runs, mut gate) = (Arc::clone(&runs), gate.clone());
                async move {
                    gate.wait_for(|open| *open).await.unwrap();
                    runs.fetch_add(1, Ordering::SeqCst)
                }
            })
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), async { open.send(true).unwrap() });
        assert_eq!((first, second), (Ok((0, Role::Led)), Ok((0, Role::Joined))));
        assert_eq!(ask().await, Ok((1, Role::Led)));
    }

    #[tokio::test]
    async fn t31_a_leader_that_dies_has_a_successor() {
        let coalesce = Coalesce::new(TaskTracker::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let ask = || {
            coalesce.run((), || {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert!(run > 0, "the first leader dies");
                    run
                }
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!(first.map(|(value, _)| value), Ok(1));
        assert_eq!(second.map(|(value, _)| value), Ok(1));
    }

    #[tokio::test]
    async fn work_that_waits_for_its_turn_ends_with_the_last_who_asked() {
        let tasks = TaskTracker::new();
        let coalesce = Coalesce::new(tasks.clone());
        let turns = Arc::new(tokio::sync::Semaphore::new(0));
        let queue = &turns;
        let ask = |key| {
            coalesce.run(key, move || {
                let turns = Arc::clone(queue);
                async move {
                    queued(turns.acquire()).await.unwrap().forget();
                    key
                }
            })
        };
        {
            let (mut left, mut stays) = (Box::pin(ask("left")), Box::pin(ask("stays")));
            assert!(futures_util::poll!(&mut left).is_pending() && futures_util::poll!(&mut stays).is_pending());
            tokio::task::yield_now().await;
            assert_eq!(tasks.len(), 2, "both wait");
            let joined = ask("stays");
            drop((left, stays));
            let (joined, ()) = tokio::join!(joined, async {
                while tasks.len() > 1 {
                    tokio::task::yield_now().await;
                }
                turns.add_permits(1);
            });
            assert_eq!(joined, Ok(("stays", Role::Joined)));
        }
        turns.add_permits(1);
        assert_eq!(ask("left").await, Ok(("left", Role::Led)), "it was never done");
    }

    #[tokio::test]
    async fn work_that_has_begun_goes_on_without_those_who_asked() {
        let tasks = TaskTracker::new();
        let coalesce = Coalesce::new(tasks.clone());
        let (open, gate) = watch::channel(false);
        let ends = Arc::new(AtomicUsize::new(0));
        let ask = || {
            coalesce.run((), || {
                let (ends, mut gate) = (Arc::clone(&ends), gate.clone());
                async move {
                    queued(async {}).await;
                    gate.wait_for(|open| *open).await.unwrap();
                    ends.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        {
            let mut left = Box::pin(ask());
            assert!(futures_util::poll!(&mut left).is_pending());
            tokio::task::yield_now().await;
        }
        open.send(true).unwrap();
        tasks.close();
        tasks.wait().await;
        assert_eq!(ends.load(Ordering::SeqCst), 1);
    }
}
