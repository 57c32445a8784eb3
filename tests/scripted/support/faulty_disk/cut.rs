//! The state that a power cut leaves.

use std::collections::HashMap;

use super::tree::{Body, Entries, Node, ROOT, Tree};

/// The fate of bytes that were not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unsynced {
    /// All of it is gone.
    Lost,
    /// Each name and each piece of a file is old or new, by this seed.
    Random(u64),
}

/// Pseudo-random, so that a failure can be repeated.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// The tree as the next start finds it. Everything in it is on the disk.
pub(super) fn after(tree: &Tree, unsynced: Unsynced) -> Tree {
    let mut dice = match unsynced {
        Unsynced::Lost => None,
        Unsynced::Random(seed) => Some(Dice(seed)),
    };
    let mut left = Tree::new(tree.size);
    let mut known = HashMap::from([(ROOT, ROOT)]);
    copy_dir(tree, ROOT, &mut left, &mut known, &mut dice);
    left
}

fn copy_dir(from: &Tree, dir: u64, to: &mut Tree, known: &mut HashMap<u64, u64>, dice: &mut Option<Dice>) {
    let Some(Node { body: Body::Dir(live), synced: Body::Dir(synced), .. }) = from.nodes.get(&dir) else { return };
    let entries: Entries = match dice {
        None => synced.clone(),
        Some(dice) => {
            let names = live.keys().chain(synced.keys()).collect::<std::collections::BTreeSet<_>>();
            let choose = |name: &String| {
                let chosen = if dice.below(2) == 0 { live.get(name) } else { synced.get(name) };
                Some((name.clone(), *chosen?))
            };
            names.into_iter().filter_map(choose).collect()
        }
    };
    for (name, ino) in entries {
        let Some(node) = from.nodes.get(&ino) else { continue };
        let is_new = !known.contains_key(&ino);
        if is_new {
            let body = match (&node.body, &node.synced) {
                (Body::File(live), Body::File(synced)) => Body::File(match dice {
                    None => synced.clone(),
                    Some(dice) => live.torn(synced, || dice.below(2) == 0),
                }),
                _ => Body::Dir(Entries::new()),
            };
            known.insert(ino, to.add_node(Node::new(body, node.mode)));
        }
        to.adopt(known[&ino], known[&dir], &name);
        if is_new && node.body.is_dir() {
            copy_dir(from, ino, to, known, dice);
        }
    }
    to.settle();
}
