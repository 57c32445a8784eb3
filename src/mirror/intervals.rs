//! Which bytes of a running fill are there.

use std::ops::Range;

/// Disjoint, ascending, never touching. A sequential download is one interval; one over several connections has few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Intervals(Vec<Range<u64>>);

impl Intervals {
    pub(super) fn add(&mut self, mut new: Range<u64>) {
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
    pub(super) fn contiguous_from(&self, at: u64) -> u64 {
        self.0.iter().find(|interval| interval.contains(&at)).map_or(at, |interval| interval.end)
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
        there.add(3..50);
        assert_eq!(there.0, vec![0..50]);
    }
}
