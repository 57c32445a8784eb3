//! Who pulled which manifest, kept for `roadstead who`.
//!
//! A request hands over what it knows and waits for nothing: where the queue is full, the pull is not recorded, and counted. A
//! task gathers what is the same, and writes it down from time to time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::clock::Timestamp;
use crate::index::{Change, NotePulls, Pull};
use crate::metrics::{Counter, Metrics};
use crate::mirror::Target;
use crate::oci::{Authority, Digest, Reference, Repository, Tag};
use crate::server::access::ANONYMOUS;

/// Pulls that may wait to be gathered.
const QUEUE: usize = 8192;
/// Different pulls that are written at one time.
const BATCH: usize = 4096;
const WRITE_AFTER: Duration = Duration::from_secs(2);

/// What is recorded of pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhoSettings {
    pub keep: Duration,
    /// The oldest days go first where more would be kept. Bytes, about.
    pub max_bytes: u64,
}

/// Takes pulls, without waiting.
pub(in crate::server) struct Pulls {
    settings: WhoSettings,
    queue: Sender<Seen>,
    waiting: Mutex<Option<Receiver<Seen>>>,
    dropped: Counter,
}

/// The same pull, whenever.
#[derive(PartialEq, Eq, Hash)]
struct What {
    authority: Authority,
    repository: Repository,
    digest: Digest,
    tag: Option<Tag>,
    who: Who,
}

struct Seen {
    what: What,
    at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Name(Arc<str>),
    Address(IpAddr),
}

impl Pulls {
    pub(in crate::server) fn new(settings: WhoSettings, metrics: &Metrics) -> Self {
        let (queue, waiting) = channel(QUEUE);
        Self { settings, queue, waiting: Mutex::new(Some(waiting)), dropped: metrics.pulls_not_recorded.clone() }
    }

    /// A manifest is given to a client. Costs some counters of references, and never waits.
    pub(in crate::server) fn note(
        &self,
        (target, reference): (&Target, &Reference),
        digest: Digest,
        (identity, client): (Option<&Arc<str>>, IpAddr),
        at: Timestamp,
    ) {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let named = identity.filter(|name| &***name != ANONYMOUS);
        let who = named.map_or(Who::Address(client), |name| Who::Name(Arc::clone(name)));
        let (authority, repository) = (target.authority.clone(), target.repository.clone());
        if self.queue.try_send(Seen { what: What { authority, repository, digest, tag, who }, at }).is_err() {
            self.dropped.inc();
        }
    }

    /// Writes pulls down until the server stops. The second call does nothing.
    pub(in crate::server) async fn run(&self, cache: &Cache) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let (mut gathered, mut write_at) = (HashMap::new(), None);
        loop {
            let mut seen = Vec::new();
            let is_last = tokio::select! {
                _count = waiting.recv_many(&mut seen, BATCH) => false,
                () = tokio::time::sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => false,
                () = cache.context.stopping.cancelled() => {
                    waiting.close();
                    while let Ok(last) = waiting.try_recv() {
                        seen.push(last);
                    }
                    true
                }
            };
            for Seen { what, at } in seen {
                let (first, last, count) = gathered.entry(what).or_insert((at, at, 0_u64));
                (*first, *last, *count) = ((*first).min(at), (*last).max(at), *count + 1);
            }
            if !gathered.is_empty() {
                write_at.get_or_insert(Instant::now() + WRITE_AFTER);
            }
            let is_due = write_at.is_some_and(|at| Instant::now() >= at);
            if is_due || is_last || gathered.len() >= BATCH {
                write_at = None;
                self.write(cache, std::mem::take(&mut gathered)).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn write(&self, cache: &Cache, gathered: HashMap<What, (Timestamp, Timestamp, u64)>) {
        let all = gathered.len() as u64;
        let pull = |(what, (first, last, count)): (What, (Timestamp, Timestamp, u64))| {
            let What { authority, repository, digest, tag, who } = what;
            let who = match who {
                Who::Name(name) => name,
                Who::Address(address) => address.to_canonical().to_string().into(),
            };
            Pull { authority, repository, digest, tag, who, first, last, count }
        };
        let pulls = gathered.into_iter().map(pull).collect();
        let first_day = cache.context.clock.now().before(self.settings.keep).day();
        let note = NotePulls { pulls, first_day, max_bytes: self.settings.max_bytes };
        if cache.index.apply(vec![Change::from(note)]).await.is_err() {
            self.dropped.inc_by(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t114_a_pull_that_finds_the_queue_full_is_counted_and_waits_for_nothing() {
        let metrics = Metrics::default();
        let settings = WhoSettings { keep: Duration::from_hours(1), max_bytes: 1 };
        let pulls = Pulls::new(settings, &metrics);
        let target = Target { authority: "a.test".parse().unwrap(), repository: "x".parse().unwrap(), via: None };
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"");
        let reference = Reference::Digest(digest);
        for _pull in 0..QUEUE + 3 {
            let client = (None, IpAddr::from([127, 0, 0, 1]));
            pulls.note((&target, &reference), digest, client, Timestamp::default());
        }
        assert_eq!(metrics.pulls_not_recorded.get(), 3);
    }
}
