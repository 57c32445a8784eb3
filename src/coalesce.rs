//! One piece of work for all who ask for the same thing at the same time.
//!
//! The work is a task of its own: whoever asked may leave. If it dies, by panic or abort, the next of those who wait
//! starts it again, once; nobody waits for ever.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub struct Coalesce<K, V> {
    running: Arc<Mutex<Running<K, V>>>,
    tasks: TaskTracker,
}

type Running<K, V> = HashMap<K, watch::Receiver<Option<V>>>;

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
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new(tasks: TaskTracker) -> Self {
        Self { running: Arc::default(), tasks }
    }

    /// Joins the work running under `key`, or starts it.
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

    fn join_or_start<F, W>(&self, key: &K, work: &W) -> (watch::Receiver<Option<V>>, Role)
    where
        W: Fn() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = running.get(key) {
            return (result.clone(), Role::Joined);
        }
        let (sender, result) = watch::channel(None);
        running.insert(key.clone(), result.clone());
        drop(running);
        let entry = Entry { key: key.clone(), running: Arc::clone(&self.running) };
        let work = work();
        self.tasks.spawn(async move {
            let entry = entry;
            let value = work.await;
            // Leaves the map first: who comes from here on sees what the work has recorded.
            drop(entry);
            sender.send_replace(Some(value));
        });
        (result, Role::Led)
    }
}

/// Removes the key however the task ends.
struct Entry<K: Eq + Hash, V> {
    key: K,
    running: Arc<Mutex<Running<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
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
}
