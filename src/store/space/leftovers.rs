//! What interrupted downloads left: how many files may wait for somebody to go on with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Space;
use super::counts::{Leftover, authority_of};
use crate::file_blocks::in_blocks;

/// Files of one registry. Each has a sidecar.
pub(super) const MOST_OF_ONE: usize = 256;
/// Files of all registries. A client may make registries up where a wildcard admits them.
pub(super) const MOST: usize = 4096;

impl Space {
    /// Bytes of partial files that no fill is working on.
    pub(in crate::store) fn leftover_bytes(&self) -> u64 {
        self.counts().leftovers.values().map(|leftover| in_blocks(leftover.size_bytes)).sum()
    }

    /// Counts a partial file that waits for a fill to go on with it.
    pub(in crate::store) fn count_leftover(&self, partial: &Path, size_bytes: u64) {
        let mut counts = self.counts();
        let before = counts.leftovers.insert(partial.to_owned(), Leftover { size_bytes, seen: None });
        let authority = authority_of(partial);
        counts.sub_partial(&authority, before.map_or(0, |before| in_blocks(before.size_bytes)));
        counts.add_partial(&authority, in_blocks(size_bytes));
    }

    pub(in crate::store) fn has_leftover(&self, partial: &Path) -> bool {
        self.counts().leftovers.contains_key(partial)
    }

    /// A fill takes the file over; its reservation counts from here.
    pub(in crate::store) fn take_over(&self, partial: &Path) {
        let mut counts = self.counts();
        let taken = counts.leftovers.remove(partial).map_or(0, |taken| in_blocks(taken.size_bytes));
        counts.sub_partial(&authority_of(partial), taken);
    }

    /// Files that no fill has worked on since `idle_since`, by the clock that says it is `now`. Milliseconds.
    pub(in crate::store) fn idle_leftovers(&self, now: u64, idle_since: u64) -> Vec<PathBuf> {
        let mut idle = Vec::new();
        for (partial, leftover) in &mut self.counts().leftovers {
            if *leftover.seen.get_or_insert(now) <= idle_since {
                idle.push(partial.clone());
            }
        }
        idle
    }

    /// Files that are too many, those with the fewest bytes, of the registries that have most.
    pub(in crate::store) fn surplus_leftovers(&self) -> Vec<PathBuf> {
        let mut by_registry: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (partial, leftover) in &self.counts().leftovers {
            let files = by_registry.entry(authority_of(partial)).or_default();
            files.push((leftover.size_bytes, partial.clone()));
        }
        let mut left: usize = by_registry.values().map(Vec::len).sum();
        let mut surplus = Vec::new();
        // The one with the fewest bytes is the last.
        for files in by_registry.values_mut() {
            files.sort_unstable_by(|one, other| other.cmp(one));
        }
        while let Some(files) = by_registry.values_mut().max_by_key(|files| files.len()) {
            if files.len() <= MOST_OF_ONE && left <= MOST {
                break;
            }
            surplus.extend(files.pop().map(|(_, partial)| partial));
            left -= 1;
        }
        surplus
    }
}
