//! Admission: how many fills run at one time, fair between registries.
//!
//! An authority runs no more than its own limit. The last quarter of all places is for authorities that run none, so that
//! a storm at one does not keep another's first fill waiting. A permit that becomes free goes round the authorities that
//! wait.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::oci::Authority;

/// The limits of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillLimits {
    /// Fills at one time.
    pub running: usize,
    /// Fills that wait for a permit; of one authority at most half as many.
    pub waiting: usize,
}

#[derive(Clone)]
pub(super) struct Queue(Arc<Mutex<State>>);

struct State {
    limits: FillLimits,
    running: usize,
    /// Of these, fills that end to make room for others.
    ending: usize,
    by_authority: HashMap<Authority, usize>,
    /// Authorities in the order of their turns.
    waiting: VecDeque<Line>,
}

/// Those of one authority that wait.
struct Line {
    authority: Authority,
    /// Most fills of that registry at one time.
    most: usize,
    waiting: VecDeque<oneshot::Sender<FillPermit>>,
}

/// One fill's permit, given up when dropped.
pub(super) struct FillPermit {
    queue: Queue,
    authority: Authority,
    ends: AtomicBool,
}

pub(super) enum Admission {
    Now(FillPermit),
    Later(oneshot::Receiver<FillPermit>),
    /// Too many wait already.
    Full,
}

impl State {
    fn admits(&self, authority: &Authority, most: usize) -> bool {
        let own = self.by_authority.get(authority).copied().unwrap_or(0);
        let kept_free = if own == 0 { 0 } else { self.limits.running / 4 };
        own < most && self.running + kept_free < self.limits.running
    }

    fn count(&mut self, authority: &Authority) {
        self.running += 1;
        *self.by_authority.entry(authority.clone()).or_default() += 1;
    }

    /// Fills that wait, and not only for others of their own authority, if that is not this one.
    fn waiting_for(&self, authority: &Authority) -> usize {
        let may_run = |line: &&Line| {
            let own = self.by_authority.get(&line.authority).copied().unwrap_or(0);
            line.authority == *authority || own < line.most
        };
        let lines = self.waiting.iter().filter(may_run);
        lines.flat_map(|line| &line.waiting).filter(|sender| !sender.is_closed()).count()
    }

    /// Removes those who have given up.
    fn forget_who_left(&mut self) {
        for line in &mut self.waiting {
            line.waiting.retain(|sender| !sender.is_closed());
        }
        self.waiting.retain(|line| !line.waiting.is_empty());
    }

    /// The next fill in turn, counted as running.
    fn next(&mut self) -> Option<(oneshot::Sender<FillPermit>, Authority)> {
        for _line in 0..self.waiting.len() {
            let mut line = self.waiting.pop_front()?;
            line.waiting.retain(|sender| !sender.is_closed());
            let is_admitted = self.admits(&line.authority, line.most);
            let sender = if is_admitted { line.waiting.pop_front() } else { None };
            let authority = line.authority.clone();
            if !line.waiting.is_empty() {
                self.waiting.push_back(line);
            }
            if let Some(sender) = sender {
                self.count(&authority);
                return Some((sender, authority));
            }
        }
        None
    }
}

impl Queue {
    pub(super) fn new(limits: FillLimits) -> Self {
        let state = State { limits, running: 0, ending: 0, by_authority: HashMap::new(), waiting: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills of this authority that have a permit.
    pub(super) fn count_running(&self, authority: &Authority) -> usize {
        self.with(|state| state.by_authority.get(authority).copied().unwrap_or(0))
    }

    /// A permit for a fill of this authority, of which `most` may run at one time; now, or in its turn.
    pub(super) fn enter(&self, authority: &Authority, most: usize) -> Admission {
        self.with(|state| {
            let is_first = !state.waiting.iter().any(|line| line.authority == *authority);
            if is_first && state.admits(authority, most) {
                state.count(authority);
                return Admission::Now(FillPermit::new(self, authority.clone()));
            }
            state.forget_who_left();
            let all: usize = state.waiting.iter().map(|line| line.waiting.len()).sum();
            let line = state.waiting.iter().position(|line| line.authority == *authority);
            let own = line.and_then(|at| state.waiting.get(at)).map_or(0, |line| line.waiting.len());
            if all >= state.limits.waiting || own >= state.limits.waiting.div_ceil(2) {
                return Admission::Full;
            }
            let (sender, permit) = oneshot::channel();
            if let Some(line) = line.and_then(|at| state.waiting.get_mut(at)) {
                line.waiting.push_back(sender);
            } else {
                let waiting = VecDeque::from([sender]);
                state.waiting.push_back(Line { authority: authority.clone(), most, waiting });
            }
            Admission::Later(permit)
        })
    }
}

impl FillPermit {
    fn new(queue: &Queue, authority: Authority) -> Self {
        Self { queue: queue.clone(), authority, ends: AtomicBool::new(false) }
    }

    /// Whether somebody waits for this permit, for whom no other fill ends already. If so, this one has to end.
    pub(super) fn is_wanted_more(&self) -> bool {
        self.queue.with(|state| {
            let is_wanted = state.waiting_for(&self.authority) > state.ending;
            if is_wanted && !self.ends.swap(true, Ordering::Relaxed) {
                state.ending += 1;
            }
            is_wanted
        })
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        let ends = *self.ends.get_mut();
        self.queue.with(|state| {
            state.running -= 1;
            state.ending -= usize::from(ends);
            if let Some(own) = state.by_authority.get_mut(&self.authority) {
                *own -= 1;
                if *own == 0 {
                    state.by_authority.remove(&self.authority);
                }
            }
        });
        while let Some((sender, authority)) = self.queue.with(State::next) {
            // If the waiter has just given up, the permit comes back, and this goes round once more.
            let _given_up = sender.send(Self::new(&self.queue, authority));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> Authority {
        name.parse().unwrap()
    }

    fn now(waiting_turn: Admission) -> FillPermit {
        match waiting_turn {
            Admission::Now(permit) => permit,
            Admission::Later(_) | Admission::Full => panic!("there is a permit"),
        }
    }

    fn later(waiting_turn: Admission) -> oneshot::Receiver<FillPermit> {
        match waiting_turn {
            Admission::Later(permit) => permit,
            Admission::Now(_) | Admission::Full => panic!("it has to wait"),
        }
    }

    #[test]
    fn a_storm_at_one_authority_leaves_a_place_for_anothers_first_fill() {
        let queue = Queue::new(FillLimits { running: 8, waiting: 100 });
        let (storm, other) = (authority("storm.test"), authority("other.test"));
        let _running: Vec<_> = (0..6).map(|_| now(queue.enter(&storm, 64))).collect();
        let _waiting = later(queue.enter(&storm, 64));
        let _first = now(queue.enter(&other, 64));
        let _second = later(queue.enter(&other, 64));
    }

    #[test]
    fn a_place_goes_round_the_authorities_that_wait() {
        let queue = Queue::new(FillLimits { running: 1, waiting: 100 });
        let (storm, other) = (authority("storm.test"), authority("other.test"));
        let running = now(queue.enter(&storm, 64));
        let mut storms: Vec<_> = (0..3).map(|_| later(queue.enter(&storm, 64))).collect();
        let mut others: Vec<_> = (0..3).map(|_| later(queue.enter(&other, 64))).collect();
        drop(running);
        let first = storms[0].try_recv().unwrap();
        assert!(storms[1].try_recv().is_err() && others[0].try_recv().is_err());
        drop(first);
        let second = others[0].try_recv().unwrap();
        drop(storms.remove(1));
        drop(second);
        drop(storms[1].try_recv().expect("whoever has left is passed over"));
        drop(others[1].try_recv().unwrap());
    }

    #[test]
    fn a_full_line_turns_away_and_one_authority_cannot_fill_it() {
        let queue = Queue::new(FillLimits { running: 1, waiting: 4 });
        let (storm, other) = (authority("storm.test"), authority("other.test"));
        let _running = now(queue.enter(&storm, 64));
        let _storms: Vec<_> = (0..2).map(|_| later(queue.enter(&storm, 64))).collect();
        assert!(matches!(queue.enter(&storm, 64), Admission::Full));
        let others: Vec<_> = (0..2).map(|_| later(queue.enter(&other, 64))).collect();
        assert!(matches!(queue.enter(&authority("third.test"), 64), Admission::Full));
        drop(others);
        let _third = later(queue.enter(&authority("third.test"), 64));
    }

    #[test]
    fn a_fill_is_wanted_by_as_many_as_wait_for_what_it_holds() {
        let queue = Queue::new(FillLimits { running: 16, waiting: 100 });
        let (crawling, other) = (authority("crawling.test"), authority("other.test"));
        let mut running: Vec<_> = (0..6).map(|_| now(queue.enter(&crawling, 6))).collect();
        assert!(!running[0].is_wanted_more());
        let _first = now(queue.enter(&other, 1));
        let _own_limit = later(queue.enter(&other, 1));
        assert!(!running[0].is_wanted_more(), "it would not have this one's place");
        let mut waits = later(queue.enter(&crawling, 6));
        assert!(running[0].is_wanted_more() && !running[1].is_wanted_more());
        drop(running.remove(0));
        let _turn = waits.try_recv().unwrap();
        assert!(!running[0].is_wanted_more(), "nobody waits any more");
    }

    #[test]
    fn an_authority_has_a_limit_of_its_own() {
        let queue = Queue::new(FillLimits { running: 100, waiting: 100 });
        let name = authority("a.test");
        let first = now(queue.enter(&name, 1));
        let mut second = later(queue.enter(&name, 1));
        drop(first);
        assert!(second.try_recv().is_ok());
    }
}
