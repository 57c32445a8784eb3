//! What follows from one client's pull: how far it may lead, and how much upstream may be asked for it.
//!
//! An index names manifests, each of which has referrers, which have referrers: an upstream that makes them up as it is
//! asked has no end of them. Everything that follows from one pull shares one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::index::Scope;

/// Steps from what a client pulled, over indexes and over referrers.
const MAX_DEPTH: u8 = 3;
/// Manifests, tags and lists that upstream is asked for.
const MAX_QUESTIONS: u64 = 500;
/// Bytes of manifests and lists. The last answer may go beyond.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

tokio::task_local! {
    /// The pull that the work of this task follows from, where no client has asked for it.
    static FOLLOWS: Pull;
}

/// A place behind one client's pull.
#[derive(Debug, Clone)]
pub(in crate::mirror) struct Pull {
    depth: u8,
    budget: Arc<Budget>,
}

/// What is left of what one pull may cost.
#[derive(Debug)]
struct Budget {
    questions: AtomicU64,
    bytes: AtomicU64,
}

impl Pull {
    /// What a client has asked for itself.
    pub(super) fn of_client() -> Self {
        let budget = Budget { questions: AtomicU64::new(MAX_QUESTIONS), bytes: AtomicU64::new(MAX_BYTES) };
        Self { depth: 0, budget: Arc::new(budget) }
    }

    /// A manifest of which only the blobs are looked at: nobody knows what it follows from.
    pub(super) fn of_blobs() -> Self {
        Self { depth: MAX_DEPTH, ..Self::of_client() }
    }

    /// One step on.
    pub(super) fn next(&self) -> Self {
        Self { depth: self.depth.saturating_add(1), budget: Arc::clone(&self.budget) }
    }

    pub(super) const fn may_go_on(&self) -> bool {
        self.depth < MAX_DEPTH
    }

    /// Whether this is nearer to what a client asked for.
    pub(super) const fn is_nearer(&self, other: &Self) -> bool {
        self.depth < other.depth
    }

    /// Whether upstream may be asked once more. Counts it.
    pub(super) fn may_ask(&self, scope: &Scope) -> bool {
        let may = self.budget.bytes.load(Ordering::Relaxed) > 0 && take(&self.budget.questions, 1) > 0;
        if !may && take(&self.budget.bytes, u64::MAX) + take(&self.budget.questions, u64::MAX) > 0 {
            tracing::warn!(authority = %scope.authority, repository = %scope.repository,
                "one pull leads to more manifests than are fetched ahead of need; the rest is left to clients");
        }
        may
    }

    /// An answer of so many bytes has come.
    pub(super) fn took(&self, bytes: usize) {
        take(&self.budget.bytes, bytes as u64);
    }

    /// Does `work` as what follows from this pull, and no client has asked for.
    pub(super) async fn follow<T>(self, work: impl Future<Output = T>) -> T {
        FOLLOWS.scope(self, work).await
    }

    /// The pull that the work of this task follows from; `None` where a client has asked.
    pub(in crate::mirror) fn followed() -> Option<Self> {
        FOLLOWS.try_with(Self::clone).ok()
    }

    /// `work` for another task, which knows then what this one knows.
    pub(in crate::mirror) fn carry<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        let followed = Self::followed();
        async move {
            match followed {
                Some(pull) => pull.follow(work).await,
                None => work.await,
            }
        }
    }
}

/// Takes as much as is left of `wanted`. What was left before.
fn take(left: &AtomicU64, wanted: u64) -> u64 {
    let less = |before: u64| Some(before.saturating_sub(wanted));
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0)
}
