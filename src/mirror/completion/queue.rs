//! Manifests that wait to be looked at, and what was learnt about them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::lacked::{Lacked, Subject};
use super::pull::Pull;
use super::report::ImagesReport;
use crate::index::Scope;
use crate::oci::{Authority, Digest};

/// Manifests of one registry that wait. The census finds those that were left out.
const MAX_QUEUED: usize = 1000;
/// Downloads, of all registries, that begin before a client asks, at one time.
const MAX_AHEAD: usize = 32;
/// A manifest whose upstream could not be asked is tried so often; later the census finds it again.
const MAX_TRIES: u32 = 5;
/// What upstream refused is not asked again for so long.
const GIVEN_UP_FOR: Duration = Duration::from_hours(1);
const MAX_GIVEN_UP: u64 = 10_000;

/// When the background looks. Not configurable; tests change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletionTimes {
    /// A client that has just been given a manifest asks for the rest itself, for so long.
    pub head_start: Duration,
    /// Least time between two censuses.
    pub census: Duration,
}

impl Default for CompletionTimes {
    fn default() -> Self {
        Self { head_start: Duration::from_secs(2), census: Duration::from_mins(1) }
    }
}

/// A manifest that waits to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) scope: Scope,
    pub(super) manifest: Digest,
    due: Instant,
    tries: u32,
    pub(super) pull: Pull,
}

/// The queue of the background work, and what it knows.
pub(in crate::mirror) struct CompletionQueue {
    pub(super) times: CompletionTimes,
    state: Mutex<State>,
    pub(super) wake: Notify,
    /// Downloads that begin before a client asks.
    pub(super) ahead: Arc<Semaphore>,
    /// Blobs and manifests that upstream does not have there, or refuses to show.
    pub(super) given_up: moka::sync::Cache<Subject, ()>,
    /// Manifests that were looked at to the end.
    pub(super) settled: moka::sync::Cache<Subject, ()>,
}

#[derive(Default)]
pub(super) struct State {
    queues: HashMap<Authority, VecDeque<Item>>,
    queued: HashSet<Subject>,
    lacked: Lacked,
    /// Something has changed since the last census.
    pub(super) is_changed: bool,
    pub(super) report: Option<ImagesReport>,
}

impl CompletionQueue {
    pub(in crate::mirror) fn new(times: CompletionTimes) -> Arc<Self> {
        let memory = || moka::sync::Cache::builder().max_capacity(MAX_GIVEN_UP).time_to_live(GIVEN_UP_FOR).build();
        Arc::new(Self {
            times,
            state: Mutex::default(),
            wake: Notify::new(),
            ahead: Arc::new(Semaphore::new(MAX_AHEAD)),
            given_up: memory(),
            settled: memory(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A scope may read this manifest from now on.
    pub(in crate::mirror) fn granted(&self, scope: &Scope, manifest: Digest) {
        self.settled.invalidate(&(scope.clone(), manifest));
        match Pull::followed() {
            Some(pull) => self.push(scope, manifest, Duration::ZERO, pull),
            None => self.push(scope, manifest, self.times.head_start, Pull::of_client()),
        }
    }

    /// The last census.
    pub(in crate::mirror) fn report(&self) -> Option<ImagesReport> {
        self.state().report.clone()
    }

    pub(super) fn push(&self, scope: &Scope, manifest: Digest, delay: Duration, pull: Pull) {
        let item = Item { scope: scope.clone(), manifest, due: Instant::now() + delay, tries: 0, pull };
        self.push_item(item);
    }

    fn push_item(&self, item: Item) {
        {
            let mut state = self.state();
            state.is_changed = true;
            let State { queues, queued, .. } = &mut *state;
            let queue = queues.entry(item.scope.authority.clone()).or_default();
            let subject = (item.scope.clone(), item.manifest);
            if queued.contains(&subject) {
                if !item.pull.may_go_on() {
                    return;
                }
                let known = queue.iter_mut().find(|known| known.manifest == item.manifest && known.scope == item.scope);
                if let Some(known) = known.filter(|known| item.pull.is_nearer(&known.pull)) {
                    known.pull = item.pull;
                }
                return;
            }
            if queue.len() >= MAX_QUEUED {
                return;
            }
            queued.insert(subject);
            queue.push_back(item);
        }
        self.wake.notify_one();
    }

    /// A blob is stored from now on: those that lack it are looked at again.
    pub(super) fn stored(&self, blob: Digest) {
        let lacking = {
            let mut state = self.state();
            state.is_changed = true;
            state.lacked.take(blob)
        };
        for subject in lacking {
            let (scope, manifest) = &*subject;
            self.push(scope, *manifest, self.times.head_start, Pull::of_blobs());
        }
    }

    /// A manifest lists blobs that are not stored.
    pub(super) fn lacks(&self, subject: &Subject, blobs: &[Digest]) {
        self.state().lacked.add(subject, blobs);
    }

    /// The work on an item has ended.
    pub(super) fn ended(&self, item: Item, ended: Ended) {
        match ended {
            Ended::Done => self.settled.insert((item.scope, item.manifest), ()),
            Ended::Later(pause) if item.tries < MAX_TRIES => {
                self.push_item(Item { due: Instant::now() + pause, tries: item.tries + 1, ..item });
            }
            Ended::Later(_) => {}
        }
    }

    /// The next item that is due, of a registry that is not worked on; or when there is one.
    pub(super) fn next(&self, busy: &HashMap<tokio::task::Id, Item>) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        let State { queues, queued, .. } = &mut *state;
        let is_busy = |authority: &Authority| busy.values().any(|item| item.scope.authority == *authority);
        let mut soonest: Option<Instant> = None;
        for (_, queue) in queues.iter_mut().filter(|(authority, _)| !is_busy(authority)) {
            if let Some(at) = queue.iter().position(|item| item.due <= now)
                && let Some(item) = queue.remove(at)
            {
                queued.remove(&(item.scope.clone(), item.manifest));
                return Next::Item(item);
            }
            soonest = soonest.into_iter().chain(queue.iter().map(|item| item.due)).min();
        }
        queues.retain(|_, queue| !queue.is_empty());
        soonest.map_or(Next::Nothing, Next::At)
    }
}

/// What is to be done next.
pub(super) enum Next {
    Item(Item),
    At(Instant),
    Nothing,
}

/// How the work on a manifest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// Upstream cannot be asked now.
    Later(Duration),
}
