//! What should go first? The same month of pulls for each candidate, at several cache sizes.
//!
//! `cargo bench --bench policy` prints byte hit ratios as a Markdown table; docs/eviction.md says what follows from them.

#![expect(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::indexing_slicing, reason = "a bench over indices that it made itself")]

#[path = "../trace/mod.rs"]
mod trace;

mod classes;
mod fifo;
mod frequency;

use std::collections::HashSet;

use trace::{Event, Kind, Shape, Trace};

/// A cache of so many bytes, in the hands of one policy.
pub(crate) trait Policy {
    /// Whether it was there. It is afterwards, if the policy takes it in.
    fn request(&mut self, event: &Event) -> bool;

    /// An image that lists this object was used: no request, and nothing is taken in.
    fn used_by_image(&mut self, object: u64, at: u64);
}

type Candidate = (&'static str, bool, fn(u64) -> Box<dyn Policy>);

const CANDIDATES: [Candidate; 10] = [
    ("LRU", false, |bytes| Box::new(classes::Classes::new(bytes, [1, 1, 1]))),
    ("LRU, images", true, |bytes| Box::new(classes::Classes::new(bytes, [1, 1, 1]))),
    ("classes 1:4:64, images", true, |bytes| Box::new(classes::Classes::new(bytes, [1, 4, 64]))),
    ("**classes 1:16:64, images**", true, |bytes| Box::new(classes::Classes::new(bytes, [1, 16, 64]))),
    ("classes 1:64:256, images", true, |bytes| Box::new(classes::Classes::new(bytes, [1, 64, 256]))),
    ("classes 1:16:64", false, |bytes| Box::new(classes::Classes::new(bytes, [1, 16, 64]))),
    ("S3-FIFO", false, |bytes| Box::new(fifo::S3Fifo::new(bytes))),
    ("S3-FIFO, images", true, |bytes| Box::new(fifo::S3Fifo::new(bytes))),
    ("W-TinyLFU by size", false, |bytes| Box::new(frequency::TinyLfu::new(bytes))),
    ("W-TinyLFU by size, images", true, |bytes| Box::new(frequency::TinyLfu::new(bytes))),
];
/// Percent of all distinct bytes of the trace.
const SIZES: [u64; 5] = [1, 3, 10, 20, 40];

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let shape = Shape::default();
    let mut trace = Trace::new(shape);
    let events: Vec<Event> = trace.by_ref().collect();
    let children: Vec<Vec<u64>> = trace.images().iter().map(children_of).collect();
    let mut seen = HashSet::new();
    let distinct: u64 = events.iter().filter(|event| seen.insert(event.object)).map(|event| event.size_bytes).sum();
    let requested: u64 = events.iter().map(|event| event.size_bytes).sum();
    println!(
        "{} requests for {} GiB in {} days; {} objects of {} GiB; seed {}\n",
        events.len(),
        requested >> 30,
        shape.days,
        seen.len(),
        distinct >> 30,
        shape.seed
    );
    println!("| policy | {} |", SIZES.map(|size| format!("{size} %")).join(" | "));
    println!("|---|{}", "---|".repeat(SIZES.len()));
    for (name, by_image, make) in CANDIDATES {
        let cells = SIZES.map(|percent| {
            let (all, pulls) = replay(&events, &children, by_image, make(distinct / 100 * percent).as_mut());
            format!("{:.1} ({:.1})", pulls * 100.0, all * 100.0)
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn children_of(image: &trace::Image) -> Vec<u64> {
    image.layers.iter().map(|(_, layer)| layer.id).chain([image.config.id]).collect()
}

/// Byte hit ratios of all requests, and of those that are not the nightly scan's.
fn replay(events: &[Event], children: &[Vec<u64>], by_image: bool, policy: &mut dyn Policy) -> (f64, f64) {
    let (mut hit, mut asked) = ([0, 0], [0, 0]);
    for event in events {
        let is_hit = policy.request(event);
        for nth in 0..if event.is_scan { 1 } else { 2 } {
            asked[nth] += event.size_bytes;
            hit[nth] += if is_hit { event.size_bytes } else { 0 };
        }
        if by_image && event.kind == Kind::Manifest {
            for child in &children[event.image] {
                policy.used_by_image(*child, event.at);
            }
        }
    }
    (hit[0] as f64 / asked[0] as f64, hit[1] as f64 / asked[1] as f64)
}
