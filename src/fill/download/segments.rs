//! Which connection fetches which bytes of a running fill. No I/O.
//!
//! A byte is written, or it belongs to one connection, or it is free. Only its owner writes it, once: so announced bytes
//! never change. Bytes that a connection has not begun to write may be taken from it.

use std::ops::Range;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::intervals::Intervals;
use super::parallelism::WINDOW;

const MIB: u64 = 1024 * 1024;
/// A blob of which less is missing is left to the connection that is there.
pub(in crate::fill) const WORTH_SPLITTING: u64 = 16 * MIB;
/// Small enough that a reader at the start is not kept waiting, large enough to be worth a round trip.
const PIECE: Range<u64> = 4 * MIB..64 * MIB;
/// Not worth a request, unless its owner is slow.
const CRUMB: u64 = 256 * 1024;
/// Bytes closer to their owner's position are on their way.
pub(in crate::fill) const NEAR: u64 = 8 * MIB;
/// Looks, one after the other, at which nothing had come.
const STALLED_LOOKS: u32 = 3;
/// Looks until a connection that has not begun loses what it was to fetch.
const OPENING_LOOKS: u32 = 20;
/// An assignment takes so many times as long as the answer before it.
const WORTH_ANSWERS: u64 = 4;
/// Longest time that a second connection is believed to wait for its answer, until one has had it.
const MOST_FOR_SECOND: Duration = Duration::from_millis(300);
/// How often, in one fill, all is taken from a connection that stalls: if the upstream itself stalls, asking again
/// helps nobody.
const MAX_RESCUES: u32 = 16;

pub(in crate::fill) type Id = u32;

/// The bytes that one connection is to fetch.
#[derive(Debug, Clone)]
pub(in crate::fill) struct Assignment {
    pub(in crate::fill) id: Id,
    /// As it is now: its end may come closer.
    pub(in crate::fill) range: Range<u64>,
    /// Set when nothing of it is left to do.
    pub(in crate::fill) stop: CancellationToken,
}

/// The state of a position, and where that state ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fill) enum Spot {
    Written(u64),
    Own(u64),
    Free(u64),
    /// Another connection's.
    Foreign(u64),
}

#[derive(Debug)]
pub(in crate::fill) struct Segments {
    /// `u64::MAX` while it is not known.
    size: u64,
    written: Intervals,
    running: Vec<Running>,
    next_id: Id,
    rescues_left: u32,
    /// The shortest time in which a connection has had its answer, and how many have had one.
    answered_in: Duration,
    answers: u32,
}

#[derive(Debug)]
struct Running {
    id: Id,
    /// Up to here it is written.
    from: u64,
    /// Up to here it is being written.
    at: u64,
    end: u64,
    begun: bool,
    looks: u32,
    idle_looks: u32,
    seen_at: u64,
    /// Bytes between the last two looks.
    moved: u64,
    stop: CancellationToken,
}

impl Running {
    const fn rest(&self) -> u64 {
        self.end - self.at
    }

    fn is_stalled(&self) -> bool {
        if self.begun { self.idle_looks >= STALLED_LOOKS } else { self.looks >= OPENING_LOOKS }
    }

    /// Looks until it is done, if it goes on as it does.
    const fn looks_left(&self) -> u64 {
        self.rest() / if self.moved == 0 { 1 } else { self.moved }
    }
}

impl Segments {
    /// For a blob whose first `left` bytes are there.
    pub(in crate::fill) fn new(size: Option<u64>, left: u64) -> Self {
        let mut written = Intervals::default();
        written.add(0..left);
        Self {
            size: size.unwrap_or(u64::MAX),
            written,
            running: Vec::new(),
            next_id: 0,
            rescues_left: MAX_RESCUES,
            answered_in: Duration::MAX,
            answers: 0,
        }
    }

    /// The size, known at last. Nobody has gone beyond it.
    pub(in crate::fill) fn learn_size(&mut self, size: u64) {
        self.size = size;
        for running in &mut self.running {
            running.end = running.end.min(size).max(running.at);
        }
    }

    pub(in crate::fill) fn size(&self) -> Option<u64> {
        (self.size < u64::MAX).then_some(self.size)
    }

    pub(in crate::fill) fn is_complete(&self) -> bool {
        self.written.contiguous_from(0) >= self.size
    }

    /// Bytes from the blob's start without a gap.
    pub(in crate::fill) fn prefix(&self) -> u64 {
        self.written.contiguous_from(0)
    }

    pub(in crate::fill) fn written_bytes(&self) -> u64 {
        self.written.total()
    }

    /// Where the last written byte ends.
    pub(in crate::fill) fn written_end(&self) -> u64 {
        self.written.end()
    }

    pub(in crate::fill) fn missing_bytes(&self) -> u64 {
        self.size.saturating_sub(self.written.total())
    }

    fn free(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let mut taken = self.written.clone();
        for running in &self.running {
            taken.add(running.from..running.end);
        }
        taken.gaps(0..self.size).collect::<Vec<_>>().into_iter()
    }

    fn assignment_length(&self, parallelism: usize) -> u64 {
        if parallelism < 2 {
            return u64::MAX;
        }
        let share = (self.missing_bytes() / (4 * parallelism as u64)).clamp(PIECE.start, PIECE.end);
        let fastest = self.running.iter().map(|running| running.moved).max().unwrap_or(0);
        share.max(bytes_in(self.until_answer(), fastest).saturating_mul(WORTH_ANSWERS))
    }

    /// How long another connection waits for its answer. The first one may have waited for what no other will wait for
    /// again.
    fn until_answer(&self) -> Duration {
        let most = if self.answers < 2 { MOST_FOR_SECOND } else { Duration::MAX };
        self.answered_in.min(most)
    }

    fn assign(&mut self, range: Range<u64>) -> Assignment {
        let id = self.next_id;
        self.next_id += 1;
        let stop = CancellationToken::new();
        self.running.push(Running {
            id,
            from: range.start,
            at: range.start,
            end: range.end,
            begun: false,
            looks: 0,
            idle_looks: 0,
            seen_at: range.start,
            moved: 0,
            stop: stop.clone(),
        });
        Assignment { id, range, stop }
    }

    /// The lowest bytes that nobody fetches: the blob's start is what most readers wait for.
    pub(in crate::fill) fn next_free(&mut self, parallelism: usize) -> Option<Assignment> {
        let gap = self.free().next()?;
        let end = gap.end.min(gap.start.saturating_add(self.assignment_length(parallelism)));
        Some(self.assign(gap.start..end))
    }

    /// An assignment at one of these positions, where readers wait, if no connection will come by there soon.
    pub(in crate::fill) fn next_for_readers(&mut self, wanted: &[u64], parallelism: usize) -> Option<Assignment> {
        let length = self.assignment_length(parallelism);
        for &at in wanted {
            if let Some(gap) = self.free().find(|gap| gap.contains(&at)) {
                return Some(self.assign(at..gap.end.min(at.saturating_add(length))));
            }
            let far = |running: &&mut Running| running.at + NEAR <= at && at < running.end;
            if let Some(victim) = self.running.iter_mut().find(far) {
                let end = std::mem::replace(&mut victim.end, at);
                return Some(self.assign(at..end.min(at.saturating_add(length))));
            }
        }
        None
    }

    /// A part of what another connection has still to do: of the one that will be the last to end. It keeps the first
    /// part, unless it is slow; the rest becomes free. Bytes that would be there before another
    /// connection had its answer are left to it.
    pub(in crate::fill) fn steal(&mut self, parallelism: usize) -> Option<Assignment> {
        let length = self.assignment_length(parallelism);
        let may_rescue = self.rescues_left > 0;
        let wait = self.until_answer();
        let share = |running: &Running| {
            let rest = running.rest();
            if running.is_stalled() {
                return if may_rescue && rest > 0 { Some(0) } else { None };
            }
            if !running.begun || running.looks == 0 {
                return None;
            }
            // A slow one keeps what it brings in half a second.
            let until_answer = bytes_in(wait, running.moved);
            if rest / 2 <= until_answer {
                return None;
            }
            let keeps = rest.midpoint(until_answer).min(length).min((running.moved * 5).max(CRUMB)).max(until_answer);
            let is_slow = running.looks >= 2 && running.looks_left() > 10;
            (rest - keeps >= CRUMB || (is_slow && keeps < rest)).then_some(keeps)
        };
        let candidates = self.running.iter_mut().filter_map(|running| Some((share(running)?, running)));
        let (keeps, victim) = candidates.max_by_key(|(_, running)| (running.looks_left(), running.rest()))?;
        let start = victim.at + keeps;
        let end = std::mem::replace(&mut victim.end, start);
        if keeps == 0 {
            self.rescues_left -= 1;
            victim.stop.cancel();
        }
        Some(self.assign(start..end.min(start.saturating_add(length))))
    }

    pub(in crate::fill) fn spot(&self, id: Id, position: u64) -> Spot {
        let until = self.written.contiguous_from(position);
        if until > position {
            return Spot::Written(until);
        }
        let owner = self.running.iter().find(|running| (running.from..running.end).contains(&position));
        match owner {
            Some(running) if running.id == id => Spot::Own(running.end),
            Some(running) => Spot::Foreign(running.end),
            None => {
                let gap = self.free().find(|gap| gap.contains(&position));
                gap.map_or(Spot::Foreign(u64::MAX), |gap| Spot::Free(gap.end))
            }
        }
    }

    /// Its connection brings what lies there, so it goes on there. Its former assignment is free again.
    pub(in crate::fill) fn move_on(&mut self, id: Id, position: u64, parallelism: usize) {
        let Spot::Free(gap_end) = self.spot(id, position) else { return };
        let end = gap_end.min(position.saturating_add(self.assignment_length(parallelism)));
        if let Some(running) = self.running.iter_mut().find(|running| running.id == id) {
            (running.from, running.at, running.end, running.seen_at) = (position, position, end, position);
        }
    }

    /// How many of `length` bytes at `position` the connection is to write. From here on they are its own.
    pub(in crate::fill) fn take(&mut self, id: Id, position: u64, length: u64) -> u64 {
        let Some(running) = self.running.iter_mut().find(|running| running.id == id) else { return 0 };
        if running.at != position {
            return 0;
        }
        let taken = length.min(running.rest());
        running.at += taken;
        taken
    }

    /// The bytes of this range are in the file.
    pub(in crate::fill) fn wrote(&mut self, id: Id, range: Range<u64>) {
        if let Some(running) = self.running.iter_mut().find(|running| running.id == id) {
            running.from = range.end;
        }
        self.written.add(range);
    }

    /// The connection has got its answer, so long after it was asked for.
    pub(in crate::fill) fn begun(&mut self, id: Id, answered_in: Duration) {
        self.answered_in = self.answered_in.min(answered_in);
        self.answers += 1;
        if let Some(running) = self.running.iter_mut().find(|running| running.id == id) {
            (running.begun, running.looks, running.idle_looks) = (true, 0, 0);
        }
    }

    pub(in crate::fill) fn has_begun(&self, id: Id) -> bool {
        self.running.iter().any(|running| running.id == id && running.begun)
    }

    /// Where what the connection is to fetch ends by now.
    pub(in crate::fill) fn end_of(&self, id: Id) -> u64 {
        self.running.iter().find(|running| running.id == id).map_or(0, |running| running.end)
    }

    /// The connection has ended, with nothing being written: what it has not brought is free again.
    pub(in crate::fill) fn release(&mut self, id: Id) {
        self.running.retain(|running| running.id != id);
    }

    /// To be called once in each [`WINDOW`]: who is slow is known by comparing.
    pub(in crate::fill) fn look(&mut self) {
        for running in &mut self.running {
            running.moved = running.at - running.seen_at;
            running.seen_at = running.at;
            running.looks += 1;
            running.idle_looks = if running.moved == 0 { running.idle_looks + 1 } else { 0 };
        }
    }
}

/// Bytes that a connection brings in this time if it brings `moved` bytes between two looks.
fn bytes_in(time: Duration, moved: u64) -> u64 {
    u64::try_from(u128::from(moved) * time.as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "segments/tests.rs"]
mod tests;
