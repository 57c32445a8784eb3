//! W-TinyLFU (Einziger and others, 2017), with admission by size: who comes must have been used more often than all whom it
//! would push out together. Counts are exact here, which flatters it.

use std::collections::{BTreeMap, HashMap};

use super::Policy;
use super::trace::Event;

/// Requests after which all counts are halved.
const AGING: u64 = 200_000;

pub(crate) struct TinyLfu {
    window: Lru,
    /// Used once since they were let in, and more often.
    probation: Lru,
    protected: Lru,
    counts: HashMap<u64, u32>,
    requests: u64,
}

/// In order of last use.
#[derive(Default)]
struct Lru {
    capacity: u64,
    bytes: u64,
    clock: u64,
    order: BTreeMap<u64, u64>,
    known: HashMap<u64, (u64, u64)>,
}

impl Lru {
    fn put(&mut self, object: u64, size: u64) {
        self.clock += 1;
        self.order.insert(self.clock, object);
        self.known.insert(object, (self.clock, size));
        self.bytes += size;
    }

    fn take(&mut self, object: u64) -> Option<u64> {
        let (at, size) = self.known.remove(&object)?;
        self.order.remove(&at);
        self.bytes -= size;
        Some(size)
    }

    fn oldest(&mut self) -> Option<(u64, u64)> {
        let object = *self.order.first_key_value()?.1;
        Some((object, self.take(object)?))
    }
}

impl TinyLfu {
    pub(crate) fn new(capacity: u64) -> Self {
        let of = |capacity| Lru { capacity, ..Lru::default() };
        let main = capacity - capacity / 20;
        Self {
            window: of(capacity / 20),
            probation: of(main),
            protected: of(main / 5 * 4),
            counts: HashMap::new(),
            requests: 0,
        }
    }

    fn count(&self, object: u64) -> u32 {
        self.counts.get(&object).copied().unwrap_or(0)
    }

    fn touch(&mut self, object: u64) -> bool {
        if let Some(size) = self.window.take(object) {
            self.window.put(object, size);
        } else if let Some(size) = self.protected.take(object).or_else(|| self.probation.take(object)) {
            self.protected.put(object, size);
            while self.protected.bytes > self.protected.capacity {
                let Some((object, size)) = self.protected.oldest() else { break };
                self.probation.put(object, size);
            }
        } else {
            return false;
        }
        true
    }

    fn admit(&mut self, object: u64, size: u64) {
        let room = self.probation.capacity;
        let over = (self.probation.bytes + self.protected.bytes + size).saturating_sub(room);
        let (mut victims, mut bytes, mut uses) = (Vec::new(), 0, 0);
        for victim in self.probation.order.values().chain(self.protected.order.values()) {
            if bytes >= over {
                break;
            }
            let known = self.probation.known.get(victim).or_else(|| self.protected.known.get(victim));
            bytes += known.map_or(0, |(_, size)| *size);
            uses += self.count(*victim);
            victims.push(*victim);
        }
        if size <= room && (over == 0 || self.count(object) > uses) {
            for victim in victims {
                let _gone = self.probation.take(victim).or_else(|| self.protected.take(victim));
            }
            self.probation.put(object, size);
        }
    }
}

impl Policy for TinyLfu {
    fn request(&mut self, event: &Event) -> bool {
        self.requests += 1;
        if self.requests.is_multiple_of(AGING) {
            self.counts.values_mut().for_each(|count| *count /= 2);
            self.counts.retain(|_, count| *count > 0);
        }
        *self.counts.entry(event.object).or_default() += 1;
        if self.touch(event.object) {
            return true;
        }
        self.window.put(event.object, event.size_bytes);
        while self.window.bytes > self.window.capacity {
            let Some((object, size)) = self.window.oldest() else { break };
            self.admit(object, size);
        }
        false
    }

    fn used_by_image(&mut self, object: u64, _at: u64) {
        *self.counts.entry(object).or_default() += 1;
        self.touch(object);
    }
}
