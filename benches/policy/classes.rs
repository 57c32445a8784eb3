//! What the mirror does: order of last use in three classes, of which each waits several times longer than the one before.

use std::collections::{BTreeSet, HashMap};

use super::Policy;
use super::trace::{Event, Kind};

/// As in `src/index/order.rs`. Milliseconds.
const GRAIN: u64 = 300 * 1000;

pub(crate) struct Classes {
    capacity: u64,
    used: u64,
    patience: [u64; 3],
    order: [BTreeSet<(u64, u64)>; 3],
    /// Class, last use, size.
    known: HashMap<u64, (usize, u64, u64)>,
}

impl Classes {
    pub(crate) fn new(capacity: u64, patience: [u64; 3]) -> Self {
        Self { capacity, used: 0, patience, order: Default::default(), known: HashMap::new() }
    }

    fn touch(&mut self, object: u64, at: u64) {
        let Some((class, last, _)) = self.known.get_mut(&object) else { return };
        if at < *last + GRAIN {
            return;
        }
        self.order[*class].remove(&(*last, object));
        *class = (*class).max(1);
        *last = at;
        self.order[*class].insert((at, object));
    }

    fn evict(&mut self, now: u64) {
        let heads = (0..3).filter_map(|class| Some((class, *self.order[class].first()?)));
        let coldest = heads.max_by_key(|(class, (last, _))| (now - last) / self.patience[*class]);
        let Some((class, head)) = coldest else { return };
        self.order[class].remove(&head);
        self.used -= self.known.remove(&head.1).map_or(0, |(_, _, size)| size);
    }
}

impl Policy for Classes {
    fn request(&mut self, event: &Event) -> bool {
        if self.known.contains_key(&event.object) {
            self.touch(event.object, event.at);
            return true;
        }
        if event.size_bytes > self.capacity {
            return false;
        }
        while self.used + event.size_bytes > self.capacity {
            self.evict(event.at);
        }
        let class = if event.kind == Kind::Manifest { 2 } else { 0 };
        self.known.insert(event.object, (class, event.at, event.size_bytes));
        self.order[class].insert((event.at, event.object));
        self.used += event.size_bytes;
        false
    }

    fn used_by_image(&mut self, object: u64, at: u64) {
        self.touch(object, at);
    }
}
