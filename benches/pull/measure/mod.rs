//! The measurements. Each starts its own programs in its own folder, and stops them.

mod black_hole;
mod carry;
mod coalescing;
mod evict;
mod many;
mod readers;
mod rebuild;
pub(crate) mod rows;
pub(crate) mod start;
mod tags;
mod verify;

use std::path::PathBuf;

use tempfile::TempDir;

use super::report::Figure;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    Coalescing,
    Tags,
    Readers,
    Start,
    BlackHole,
    Many,
    Evict,
    Verify,
    Rebuild,
    Carry,
}

impl Measurement {
    pub(crate) const ALL: [Self; 5] = [Self::Coalescing, Self::Tags, Self::Readers, Self::Start, Self::BlackHole];

    /// Those that run only when they are named.
    pub(crate) const NAMED: [Self; 5] = [Self::Many, Self::Evict, Self::Verify, Self::Rebuild, Self::Carry];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Coalescing => "coalescing",
            Self::Tags => "tags",
            Self::Readers => "readers",
            Self::Start => "start",
            Self::BlackHole => "black-hole",
            Self::Many => "many",
            Self::Evict => "evict",
            Self::Verify => "verify",
            Self::Rebuild => "rebuild",
            Self::Carry => "carry",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Coalescing => "copies fetched when many clients ask for one cold blob at once",
            Self::Tags => "upstream requests of image pulls by a tag that is fresh",
            Self::Readers => "private memory with 100 readers on one running fill",
            Self::Start => "time to listening: empty, with a million blobs, and after kill -9",
            Self::BlackHole => "pulls while upstream swallows packets",
            Self::Many => "idle connections, readers of one fill, and too many requests; only when named",
            Self::Evict => "hits while a full store takes blobs in; only when named",
            Self::Verify => "reading all that is stored again; only when named",
            Self::Rebuild => "a start without an index; only when named",
            Self::Carry => "looking at much, bundles, and warming from far away; only when named",
        }
    }

    /// Programs, besides Roadstead, that it needs.
    pub(crate) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Coalescing
            | Self::Tags
            | Self::Readers
            | Self::Start
            | Self::Many
            | Self::Evict
            | Self::Verify
            | Self::Rebuild => &["setpriv", "sh"],
            Self::Carry => &["setpriv", "sh", "skopeo", "tar"],
            Self::BlackHole => &["setpriv", "sh", "docker-registry", "ip", "iptables", "nsenter", "sleep", "unshare"],
        }
    }

    pub(crate) async fn run(self, bench: &Bench) -> Vec<Figure> {
        match self {
            Self::Coalescing => Box::pin(coalescing::measure(bench)).await,
            Self::Tags => Box::pin(tags::measure(bench)).await,
            Self::Readers => Box::pin(readers::measure(bench)).await,
            Self::Start => Box::pin(start::measure(bench)).await,
            Self::BlackHole => Box::pin(black_hole::measure(bench)).await,
            Self::Many => Box::pin(many::measure(bench)).await,
            Self::Evict => Box::pin(evict::measure(bench)).await,
            Self::Verify => Box::pin(verify::measure(bench)).await,
            Self::Rebuild => Box::pin(rebuild::measure(bench)).await,
            Self::Carry => Box::pin(carry::measure(bench)).await,
        }
    }
}

/// What the measurements have in common.
pub(crate) struct Bench {
    quick: bool,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new(quick: bool) -> Self {
        // Beside the build and not in /tmp, which may be memory.
        let folder = tempfile::Builder::new().prefix("pull-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { quick, folder: folder.expect("the build's folder is writable") }
    }

    /// Where something of this name may make its folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A size or a number, or a small one.
    pub(crate) fn scale<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Bytes.
pub(crate) const MIB: u64 = 1024 * 1024;
