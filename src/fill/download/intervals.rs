//! Which bytes of a running fill are there.

use std::ops::Range;

/// Disjoint, ascending, never touching. A sequential download is one interval; one over several connections has few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::fill) struct Intervals(Vec<Range<u64>>);

impl Intervals {
    pub(in crate::fill) fn add(&mut self, mut new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        self.0.retain(|old| {
            let apart = old.end < new.start || new.end < old.start;
            if !apart {
                new = new.start.min(old.start)..new.end.max(old.end);
            }
            apart
        });
        let at = self.0.partition_point(|old| old.start < new.start);
        self.0.insert(at, new);
    }

    /// End of the bytes that are there from `at` on without a gap; `at` itself if it is not there.
    pub(in crate::fill) fn contiguous_from(&self, at: u64) -> u64 {
        self.0.iter().find(|interval| interval.contains(&at)).map_or(at, |interval| interval.end)
    }

    /// How many bytes are there.
    pub(in crate::fill) fn total(&self) -> u64 {
        self.0.iter().map(|interval| interval.end - interval.start).sum()
    }

    /// End of the last interval.
    pub(in crate::fill) fn end(&self) -> u64 {
        self.0.last().map_or(0, |interval| interval.end)
    }

    /// The parts of `within` that are not there, ascending.
    pub(in crate::fill) fn gaps(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let starts = std::iter::once(within.start).chain(self.0.iter().map(|interval| interval.end));
        let ends = self.0.iter().map(|interval| interval.start).chain(std::iter::once(within.end));
        let gaps = starts.zip(ends).map(move |(start, end)| start.max(within.start)..end.min(within.end));
        gaps.filter(|gap| !gap.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_merge_in_any_order() {
        let mut there = Intervals::default();
        there.add(10..20);
        there.add(30..40);
        assert_eq!((there.contiguous_from(10), there.contiguous_from(15), there.contiguous_from(5)), (20, 20, 5));
        there.add(20..30);
        assert_eq!(there.0, vec![10..40]);
        there.add(0..5);
        there.add(5..5);
        assert_eq!(there.0, vec![0..5, 10..40]);
        assert_eq!((there.total(), there.end()), (35, 40));
        there.add(3..50);
        assert_eq!(there.0, vec![0..50]);
    }

    #[test]
    fn gaps_are_what_is_missing() {
        let mut there = Intervals::default();
        let gaps = |there: &Intervals, within| there.gaps(within).collect::<Vec<_>>();
        assert_eq!(gaps(&there, 0..100), vec![0..100]);
        there.add(10..20);
        there.add(30..40);
        assert_eq!(gaps(&there, 0..100), vec![0..10, 20..30, 40..100]);
        assert_eq!(gaps(&there, 15..35), vec![20..30]);
        assert_eq!(gaps(&there, 10..20), Vec::<Range<u64>>::new());
    }
}
