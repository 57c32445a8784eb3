//! The same work by Roadstead and by others, in turns, side by side.

mod ahead;
mod capped;
mod cold;
mod far;
mod herd;
mod hit;
mod manifest;
mod memory;
mod small;
mod stage;
mod tls;

use std::hint;

pub(crate) use self::stage::{Contestant, Stage};

use crate::measure::Bench;
use crate::table::Row;

const ROUNDS: usize = 3;
/// More than any turn writes.
const TOUCHED_BYTES: usize = 1024 * 1024 * 1024;

/// The rows of one kind of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Hit,
    Small,
    Manifest,
    Cold,
    Capped,
    Far,
    Ahead,
    Herd,
    Memory,
    Tls,
}

impl Work {
    pub(crate) const ALL: [Self; 10] = [
        Self::Hit,
        Self::Small,
        Self::Manifest,
        Self::Cold,
        Self::Capped,
        Self::Far,
        Self::Ahead,
        Self::Herd,
        Self::Memory,
        Self::Tls,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Small => "small",
            Self::Manifest => "manifest",
            Self::Cold => "cold",
            Self::Capped => "capped",
            Self::Far => "far",
            Self::Ahead => "ahead",
            Self::Herd => "herd",
            Self::Memory => "memory",
            Self::Tls => "tls",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Hit => "hits of a large blob at 1, 8 and 64 connections",
            Self::Small => "hits of small blobs at 64 connections",
            Self::Manifest => "manifests by digest and by fresh tag at 64 connections",
            Self::Cold => "a cold pull: a manifest, then a large layer",
            Self::Capped => "a cold pull where each connection to the upstream is capped",
            Self::Far => "a cold pull of eight layers from an upstream that is far",
            Self::Ahead => "the same by a client that asks for three layers at a time, with and without `complete`",
            Self::Herd => "many clients at once on one cold blob",
            Self::Memory => "private memory with 64 readers",
            Self::Tls => "hits over TLS at 1 and 8 connections",
        }
    }

    pub(crate) async fn run(self, bench: &Bench) -> Vec<Row> {
        match self {
            Self::Hit => Box::pin(hit::measure(bench)).await,
            Self::Small => Box::pin(small::measure(bench)).await,
            Self::Manifest => Box::pin(manifest::measure(bench)).await,
            Self::Cold => Box::pin(cold::measure(bench)).await,
            Self::Capped => Box::pin(capped::measure(bench)).await,
            Self::Far => Box::pin(far::measure(bench)).await,
            Self::Ahead => Box::pin(ahead::measure(bench)).await,
            Self::Herd => Box::pin(herd::measure(bench)).await,
            Self::Memory => Box::pin(memory::measure(bench)).await,
            Self::Tls => Box::pin(tls::measure(bench)).await,
        }
    }
}

/// In another order each round, so that nobody is always the first.
fn turns<T>(contestants: &[T], round: usize) -> impl Iterator<Item = &T> {
    contestants.iter().cycle().skip(round).take(contestants.len()).inspect(|_| settle())
}

/// Nobody pays for the one before: what that has written is on the disk, and free memory is really there. A virtual machine's
/// host takes back what is not used, and a page that is touched again costs whoever does so.
fn settle() {
    rustix::fs::sync();
    drop(hint::black_box(vec![1_u8; TOUCHED_BYTES]));
}
