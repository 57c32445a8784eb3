//! Admission: how many fills run at one time, fair between registries.
//!
//! An authority runs no more than its own limit. The last quarter of all places is for authorities that run few, the last
//! eighth for those that run none, so that a storm at one does not keep another's first fills waiting. A permit that becomes
//! free goes round the authorities that wait. Where too many wait, those of the longest line make way for others.
//!
//! Only what a client has asked for waits, and whatever else runs ends where somebody waits for its place, the slowest first.

use std::collections::{HashMap, HashSet, VecDeque};
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

/// So many fills of an authority at one time are few.
const FEW: usize = 4;

#[derive(Clone)]
pub(super) struct Queue(Arc<Mutex<State>>);

struct State {
    limits: FillLimits,
    running: usize,
    /// Of these, fills that end to make room for others, by permit.
    ending: HashSet<u64>,
    by_authority: HashMap<Authority, usize>,
    /// Those that no client waits for, by permit, with their bytes per second.
    unattended: HashMap<u64, (Authority, u64)>,
    next_permit: u64,
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
    number: u64,
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
        let kept_free = match own {
            0 => 0,
            own if own < FEW => self.limits.running.div_ceil(8).min(self.limits.running / 4),
            _ => self.limits.running / 4,
        };
        own < most && self.running + kept_free < self.limits.running
    }

    /// Whether a fill would have a permit now: others of its authority that wait come first.
    fn has_place(&self, authority: &Authority, most: usize) -> bool {
        !self.waiting.iter().any(|line| line.authority == *authority) && self.admits(authority, most)
    }

    /// Counts a fill as running. The number of its permit.
    fn count(&mut self, authority: &Authority) -> u64 {
        self.running += 1;
        *self.by_authority.entry(authority.clone()).or_default() += 1;
        self.next_permit += 1;
        self.next_permit
    }

    /// Fills that wait for any place, and those of each authority that wait for others of their own.
    fn waiting(&self) -> (usize, HashMap<&Authority, usize>) {
        let (mut any, mut own_only) = (0, HashMap::new());
        for line in &self.waiting {
            let waiting = line.waiting.iter().filter(|sender| !sender.is_closed()).count();
            if self.by_authority.get(&line.authority).copied().unwrap_or(0) < line.most {
                any += waiting;
            } else {
                own_only.insert(&line.authority, waiting);
            }
        }
        (any, own_only)
    }

    /// Fills that wait, and not only for others of their own authority, if that is not this one.
    fn waiting_for(&self, authority: &Authority) -> usize {
        let (any, own_only) = self.waiting();
        any + own_only.get(authority).copied().unwrap_or(0)
    }

    /// Whether somebody waits for the place of this fill, and for that of no slower one that nobody waits for.
    fn is_slowest_wanted(&self, authority: &Authority, rate: u64) -> bool {
        let (any, own_only) = self.waiting();
        let is_wanted = |of: &Authority| any + own_only.get(of).copied().unwrap_or(0) > self.ending.len();
        is_wanted(authority) && !self.unattended.values().any(|(of, other)| *other < rate && is_wanted(of))
    }

    /// The last one of the longest line leaves, if that line is longer than one of `own` and one more.
    fn make_way(&mut self, own: usize) -> bool {
        let longest = self.waiting.iter_mut().max_by_key(|line| line.waiting.len());
        longest.filter(|line| line.waiting.len() > own + 1).is_some_and(|line| line.waiting.pop_back().is_some())
    }

    /// Removes those who have given up.
    fn forget_who_left(&mut self) {
        for line in &mut self.waiting {
            line.waiting.retain(|sender| !sender.is_closed());
        }
        self.waiting.retain(|line| !line.waiting.is_empty());
    }

    /// The next fill in turn, counted as running.
    fn next(&mut self) -> Option<(oneshot::Sender<FillPermit>, Authority, u64)> {
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
                let number = self.count(&authority);
                return Some((sender, authority, number));
            }
        }
        None
    }
}

impl Queue {
    pub(super) fn new(limits: FillLimits) -> Self {
        let state = State {
            limits,
            running: 0,
            ending: HashSet::new(),
            by_authority: HashMap::new(),
            unattended: HashMap::new(),
            next_permit: 0,
            waiting: VecDeque::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills of this authority that have a permit.
    pub(super) fn count_running(&self, authority: &Authority) -> usize {
        self.with(|state| state.by_authority.get(authority).copied().unwrap_or(0))
    }

    /// Whether a fill of this authority, of which `most` may run at one time, would have a permit now.
    pub(super) fn has_place(&self, authority: &Authority, most: usize) -> bool {
        self.with(|state| state.has_place(authority, most))
    }

    /// A permit for a fill of this authority, of which `most` may run at one time; now, or, if it `may_wait`, in its turn.
    pub(super) fn enter(&self, authority: &Authority, most: usize, may_wait: bool) -> Admission {
        self.with(|state| {
            if state.has_place(authority, most) {
                let number = state.count(authority);
                return Admission::Now(FillPermit::new(self, authority.clone(), number));
            }
            if !may_wait {
                return Admission::Full;
            }
            state.forget_who_left();
            let all: usize = state.waiting.iter().map(|line| line.waiting.len()).sum();
            let line = state.waiting.iter().position(|line| line.authority == *authority);
            let own = line.and_then(|at| state.waiting.get(at)).map_or(0, |line| line.waiting.len());
            if own >= state.limits.waiting.div_ceil(2) || (all >= state.limits.waiting && !state.make_way(own)) {
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
    fn new(queue: &Queue, authority: Authority, number: u64) -> Self {
        Self { queue: queue.clone(), authority, number }
    }

    /// Notes how many bytes per second a fill brings that no client waits for; `None` if one does. `true` if it has to end:
    /// its place is wanted, and no other such fill is slower.
    pub(super) fn has_to_end(&self, unattended: Option<u64>) -> bool {
        self.queue.with(|state| {
            let Some(rate) = unattended else {
                state.unattended.remove(&self.number);
                return false;
            };
            state.unattended.insert(self.number, (self.authority.clone(), rate));
            let ends = state.is_slowest_wanted(&self.authority, rate);
            if ends {
                state.unattended.remove(&self.number);
                state.ending.insert(self.number);
            }
            ends
        })
    }

    /// Whether somebody waits for this permit, for whom no other fill ends already. If so, this one has to end.
    pub(super) fn is_wanted_more(&self) -> bool {
        self.queue.with(|state| {
            let is_wanted = state.waiting_for(&self.authority) > state.ending.len();
            if is_wanted {
                state.ending.insert(self.number);
            }
            is_wanted
        })
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        self.queue.with(|state| {
            state.running -= 1;
            state.unattended.remove(&self.number);
            state.ending.remove(&self.number);
            if let Some(own) = state.by_authority.get_mut(&self.authority) {
                *own -= 1;
                if *own == 0 {
                    state.by_authority.remove(&self.authority);
                }
            }
        });
        while let Some((sender, authority, number)) = self.queue.with(State::next) {
            // If the waiter has just given up, the permit comes back, and this goes round once more.
            let _given_up = sender.send(Self::new(&self.queue, authority, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queue {
        fn ask(&self, authority: &Authority, most: usize) -> Admission {
            self.enter(authority, most, true)
        }
    }

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
        let _running: Vec<_> = (0..6).map(|_| now(queue.ask(&storm, 64))).collect();
        let _waiting = later(queue.ask(&storm, 64));
        let _first = now(queue.ask(&other, 64));
        let _second = later(queue.ask(&other, 64));
    }

    #[test]
    fn a_place_goes_round_the_authorities_that_wait() {
        let queue = Queue::new(FillLimits { running: 1, waiting: 100 });
        let (storm, other) = (authority("storm.test"), authority("other.test"));
        let running = now(queue.ask(&storm, 64));
        let mut storms: Vec<_> = (0..3).map(|_| later(queue.ask(&storm, 64))).collect();
        let mut others: Vec<_> = (0..3).map(|_| later(queue.ask(&other, 64))).collect();
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
        let _running = now(queue.ask(&storm, 64));
        let _storms: Vec<_> = (0..2).map(|_| later(queue.ask(&storm, 64))).collect();
        assert!(matches!(queue.ask(&storm, 64), Admission::Full));
        let others: Vec<_> = (0..2).map(|_| later(queue.ask(&other, 64))).collect();
        drop(others);
        let _third = later(queue.ask(&authority("third.test"), 64));
    }

    #[test]
    fn t67_who_has_few_waiting_has_those_of_the_longest_line_make_way() {
        let queue = Queue::new(FillLimits { running: 1, waiting: 6 });
        let (first, second, honest) = (authority("first.test"), authority("second.test"), authority("honest.test"));
        let _running = now(queue.ask(&first, 64));
        let mut firsts: Vec<_> = (0..3).map(|_| later(queue.ask(&first, 64))).collect();
        let mut seconds: Vec<_> = (0..3).map(|_| later(queue.ask(&second, 64))).collect();
        let mut honests: Vec<_> = (0..2).map(|_| later(queue.ask(&honest, 64))).collect();
        assert!(matches!(queue.ask(&honest, 64), Admission::Full), "all have as many");
        let left = |waiting: &mut Vec<oneshot::Receiver<FillPermit>>| {
            let is_closed = |turn: &mut oneshot::Receiver<FillPermit>| {
                matches!(turn.try_recv(), Err(oneshot::error::TryRecvError::Closed))
            };
            waiting.iter_mut().filter_map(|turn| is_closed(turn).then_some(())).count()
        };
        assert_eq!((left(&mut firsts), left(&mut seconds), left(&mut honests)), (1, 1, 0));
    }

    #[test]
    fn t67_the_slowest_that_no_client_waits_for_ends_when_its_place_is_wanted() {
        let queue = Queue::new(FillLimits { running: 3, waiting: 100 });
        let (hostile, honest) = (authority("hostile.test"), authority("honest.test"));
        let running: Vec<_> = (0..3).map(|_| now(queue.ask(&hostile, 64))).collect();
        assert!(matches!(queue.enter(&hostile, 64, false), Admission::Full), "what nobody asked for does not wait");
        assert!(!running[0].has_to_end(Some(2000)) && !running[1].has_to_end(Some(1400)), "nobody waits");
        let _turn = later(queue.ask(&honest, 64));
        assert!(!running[0].has_to_end(Some(2000)), "another one is slower");
        assert!(!running[2].has_to_end(None), "a client waits for it");
        assert!(running[1].has_to_end(Some(1400)));
        assert!(!running[0].has_to_end(Some(2000)), "one ends for each that waits");
    }

    #[test]
    fn a_fill_is_wanted_by_as_many_as_wait_for_what_it_holds() {
        let queue = Queue::new(FillLimits { running: 16, waiting: 100 });
        let (crawling, other) = (authority("crawling.test"), authority("other.test"));
        let mut running: Vec<_> = (0..6).map(|_| now(queue.ask(&crawling, 6))).collect();
        assert!(!running[0].is_wanted_more());
        let _first = now(queue.ask(&other, 1));
        let _own_limit = later(queue.ask(&other, 1));
        assert!(!running[0].is_wanted_more(), "it would not have this one's place");
        let mut waits = later(queue.ask(&crawling, 6));
        assert!(running[0].is_wanted_more() && !running[1].is_wanted_more());
        drop(running.remove(0));
        let _turn = waits.try_recv().unwrap();
        assert!(!running[0].is_wanted_more(), "nobody waits any more");
    }

    #[test]
    fn an_authority_has_a_limit_of_its_own() {
        let queue = Queue::new(FillLimits { running: 100, waiting: 100 });
        let name = authority("a.test");
        let first = now(queue.ask(&name, 1));
        let mut second = later(queue.ask(&name, 1));
        drop(first);
        assert!(second.try_recv().is_ok());
    }
}
