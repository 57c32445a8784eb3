//! Work ahead of need: what the next pull of a manifest needs is looked at before somebody asks for it, because in an
//! outage that is too late.
//!
//! A manifest that a scope may read is looked at once its client has had a moment for its own requests. Each blob that is
//! stored and not granted there is proved as a request would prove it; what the configuration wants complete is fetched
//! ([`work`]). A manifest that still lacks blobs is looked at again when one of them is stored, and by the census
//! ([`census`]), which also finds what a restart or a full queue has forgotten.
//!
//! What follows from one client's pull has a depth and a budget ([`pull`]).
//!
//! One manifest of a registry at a time, behind its clients. A manifest that lists a digest proves nothing: grants come
//! from upstream only.

mod census;
mod lacked;
mod lacking;
mod pull;
pub(super) mod queue;
mod report;
mod work;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

pub(super) use census::run_census;
pub(super) use lacking::{Looks, Reach, lacking};
pub(super) use pull::Pull;
pub(super) use queue::CompletionQueue;
pub use queue::CompletionTimes;
pub use report::{ImagesReport, IncompleteImage};
pub(super) use work::begin_blobs;

use super::Mirror;
use queue::{Ended, Item, Next};
use work::Work;

/// Registries that are worked on at one time.
const MAX_AT_ONCE: usize = 4;

/// Completes what is held, until the mirror stops.
pub(super) async fn run(mirror: Arc<Mirror>) {
    let queue = Arc::clone(&mirror.completion);
    let stopping = mirror.cache.context.stopping.clone();
    let mut stored = mirror.cache.subscribe_stored();
    // Dropping this ends its tasks.
    let mut running = JoinSet::new();
    let mut busy: HashMap<tokio::task::Id, Item> = HashMap::new();
    loop {
        let mut next_due = None;
        // While the mirror drains, nothing new begins.
        while busy.len() < MAX_AT_ONCE && !mirror.cache.context.tasks.is_closed() {
            match queue.next(&busy) {
                Next::Item(item) => {
                    let work = Work::new(&mirror, &item.scope);
                    let (manifest, pull) = (item.manifest, item.pull.clone());
                    let task = running.spawn(async move {
                        match work {
                            Some(work) => work.complete(manifest, pull).await,
                            None => Ended::Done,
                        }
                    });
                    busy.insert(task.id(), item);
                }
                Next::At(due) => {
                    next_due = Some(due);
                    break;
                }
                Next::Nothing => break,
            }
        }
        let due = async {
            match next_due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = queue.wake.notified() => {}
            () = due => {}
            blob = stored.recv() => match blob {
                Ok(blob) => queue.stored(blob),
                // The census finds what was missed.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            Some(ended) = running.join_next_with_id(), if !running.is_empty() => {
                let (id, ended) = match ended {
                    Ok((id, ended)) => (id, ended),
                    Err(died) => (died.id(), Ended::Done),
                };
                if let Some(item) = busy.remove(&id) {
                    queue.ended(item, ended);
                }
            }
            () = stopping.cancelled() => return,
        }
    }
}
