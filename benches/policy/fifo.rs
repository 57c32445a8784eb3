//! S3-FIFO (Yang and others, SOSP 2023): a small queue, a main queue, and a memory of what left the small one.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Policy;
use super::trace::Event;

pub(crate) struct S3Fifo {
    capacity: u64,
    small: Queue,
    main: Queue,
    ghosts: VecDeque<(u64, u64)>,
    ghost_bytes: u64,
    is_ghost: HashSet<u64>,
    /// Uses, up to 3.
    uses: HashMap<u64, u8>,
}

#[derive(Default)]
struct Queue {
    objects: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Queue {
    fn push(&mut self, object: u64, size: u64) {
        self.objects.push_back((object, size));
        self.bytes += size;
    }

    fn pop(&mut self) -> Option<(u64, u64)> {
        let (object, size) = self.objects.pop_front()?;
        self.bytes -= size;
        Some((object, size))
    }
}

impl S3Fifo {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small: Queue::default(),
            main: Queue::default(),
            ghosts: VecDeque::new(),
            ghost_bytes: 0,
            is_ghost: HashSet::new(),
            uses: HashMap::new(),
        }
    }

    fn evict(&mut self) {
        if self.small.bytes > self.capacity / 10 || self.main.objects.is_empty() {
            let Some((object, size)) = self.small.pop() else { return };
            if self.uses[&object] > 0 {
                self.uses.insert(object, 0);
                self.main.push(object, size);
                return;
            }
            self.uses.remove(&object);
            self.is_ghost.insert(object);
            self.ghosts.push_back((object, size));
            self.ghost_bytes += size;
            while self.ghost_bytes > self.capacity {
                let Some((old, size)) = self.ghosts.pop_front() else { return };
                self.is_ghost.remove(&old);
                self.ghost_bytes -= size;
            }
        } else if let Some((object, size)) = self.main.pop() {
            match self.uses[&object] {
                0 => drop(self.uses.remove(&object)),
                uses => {
                    self.uses.insert(object, uses - 1);
                    self.main.push(object, size);
                }
            }
        }
    }

    fn touch(&mut self, object: u64) -> bool {
        let uses = self.uses.get_mut(&object);
        uses.map(|uses| *uses = (*uses + 1).min(3)).is_some()
    }
}

impl Policy for S3Fifo {
    fn request(&mut self, event: &Event) -> bool {
        if self.touch(event.object) {
            return true;
        }
        if event.size_bytes > self.capacity {
            return false;
        }
        while self.small.bytes + self.main.bytes + event.size_bytes > self.capacity {
            self.evict();
        }
        self.uses.insert(event.object, 0);
        let queue = if self.is_ghost.contains(&event.object) { &mut self.main } else { &mut self.small };
        queue.push(event.object, event.size_bytes);
        false
    }

    fn used_by_image(&mut self, object: u64, _at: u64) {
        self.touch(object);
    }
}
