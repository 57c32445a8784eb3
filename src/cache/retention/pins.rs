//! Pins: what is never evicted, with all that its manifests reach.
//!
//! What a pin reaches is marked in the index when it comes, so that nothing is looked up when something has to go. All
//! marks are made anew now and then, since tags move and pins are taken back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::index::{Change, Index, IndexError, MarkPinned, PinRoot, PinRoots, PutPin, RemovePin, Scope, Unmark};
use crate::oci::{Digest, PinPattern};

/// Between two times that all marks are made.
const REFRESH_AFTER: Duration = Duration::from_hours(1);
/// Rows read, and roots marked, in one transaction.
const STEP: usize = 500;
const MARKS_AT_ONCE: usize = 16;

/// A pin, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pin {
    pub pattern: PinPattern,
    /// By `storage.pins`: only a change of the configuration takes it back.
    pub configured: bool,
}

/// All pins, and which of what they name is marked.
pub struct Pins {
    configured: Vec<PinPattern>,
    all: RwLock<Arc<Vec<PinPattern>>>,
    /// Marks older than this are outdated. Seconds since the epoch.
    round: AtomicU64,
    refreshed: AtomicU64,
    /// Everything that is pinned is marked, in an index that had lost marks so many times: before, nothing may go.
    known: watch::Sender<Option<u64>>,
}

impl Pins {
    pub fn new(configured: Vec<PinPattern>, now: Timestamp) -> Self {
        Self {
            all: RwLock::new(Arc::new(configured.clone())),
            configured,
            round: AtomicU64::new(now.as_millis() / 1000),
            refreshed: AtomicU64::new(0),
            known: watch::Sender::new(None),
        }
    }

    fn all(&self) -> Arc<Vec<PinPattern>> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn round(&self) -> Timestamp {
        Timestamp::from_millis(self.round.load(Ordering::Relaxed) * 1000)
    }

    /// The mark for a manifest that came or was named, if a pin names it.
    pub fn mark(&self, scope: &Scope, tag: Option<&str>, manifest: Digest) -> Option<Change> {
        let matches = |pin: &PinPattern| pin.matches(&scope.authority, &scope.repository, tag);
        let pinned = self.all().iter().any(matches);
        pinned.then(|| Change::from(MarkPinned { scope: scope.clone(), manifest, at: self.round() }))
    }

    /// The mark for what is held. Where only the authority is known, every pin of repositories in it counts: rather too
    /// much is kept than too little.
    fn mark_root(&self, root: &PinRoot) -> Option<Change> {
        let PinRoot { scope, tag, manifest, anywhere } = root;
        if *anywhere && self.all().iter().any(|pin| pin.may_match(&scope.authority)) {
            return Some(Change::from(MarkPinned { scope: scope.clone(), manifest: *manifest, at: self.round() }));
        }
        self.mark(scope, tag.as_deref(), *manifest)
    }

    /// Whether all that is pinned is marked: until then nothing is evicted, and no grant is dropped.
    pub fn are_known(&self, index: &Index) -> bool {
        *self.known.borrow() == Some(index.reopened())
    }

    /// Resolves when all that is pinned is marked.
    pub(super) async fn known(&self, index: &Index) {
        // The sender is here.
        let mut known = self.known.subscribe();
        let _never_closed = known.wait_for(|known| *known == Some(index.reopened())).await.is_ok();
    }

    /// All pins: those of the configuration first.
    pub async fn list(&self, index: &Index) -> Result<Vec<Pin>, IndexError> {
        let made = index.pins().await?.into_iter().filter(|pin| !self.configured.contains(pin));
        let made = made.map(|pattern| Pin { pattern, configured: false });
        Ok(self.configured.iter().map(|pin| Pin { pattern: pin.clone(), configured: true }).chain(made).collect())
    }

    /// Pins durably, all of them or none; returns when everything held that they reach is kept.
    pub async fn add(&self, index: &Index, pins: Vec<PinPattern>, now: Timestamp) -> Result<(), IndexError> {
        index.apply_durably(pins.into_iter().map(|pin| Change::from(PutPin { pin, at: now })).collect()).await?;
        self.refresh(index, now).await;
        // The log does not keep the marks: a database that fails would be read without them.
        if index.checkpoint().await.is_err() {
            self.known.send_replace(None);
        }
        Ok(())
    }

    /// Takes pins back that were made by [`Self::add`]; those of the configuration stay.
    pub async fn remove(&self, index: &Index, pins: Vec<PinPattern>, now: Timestamp) -> Result<(), IndexError> {
        index.apply_durably(pins.into_iter().map(|pin| Change::from(RemovePin { pin })).collect()).await?;
        self.refresh(index, now).await;
        Ok(())
    }

    pub(super) async fn refresh_if_due(&self, index: &Index, now: Timestamp) {
        let due = Timestamp::from_millis(self.refreshed.load(Ordering::Relaxed)).plus(REFRESH_AFTER);
        if !self.are_known(index) || (now >= due && !self.all().is_empty()) {
            self.refresh(index, now).await;
        }
    }

    /// Marks everything that is pinned, and drops the marks of what is not any more. Its time grows with the number of tags
    /// and manifests, where there are pins.
    pub async fn refresh(&self, index: &Index, now: Timestamp) {
        let reopened = index.reopened();
        match self.mark_all(index, now).await {
            Ok(()) => {
                self.refreshed.store(now.as_millis(), Ordering::Relaxed);
                self.known.send_replace(Some(reopened));
            }
            Err(err) => {
                tracing::warn!(error = %err, "what is pinned cannot be told; nothing that may be is taken back");
            }
        }
    }

    async fn mark_all(&self, index: &Index, now: Timestamp) -> Result<(), IndexError> {
        let mut all = self.configured.clone();
        all.extend(index.pins().await?);
        let is_empty = all.is_empty();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        // What is marked from here on is of this round.
        let round = self.round.load(Ordering::Relaxed);
        self.round.store((now.as_millis() / 1000).max(round + 1), Ordering::Relaxed);
        for roots in [PinRoots::Tags, PinRoots::Manifests].into_iter().filter(|_| !is_empty) {
            let mut after = None;
            loop {
                let (found, next) = index.pin_roots(roots, after, STEP).await?;
                let marks: Vec<Change> = found.iter().filter_map(|root| self.mark_root(root)).collect();
                for marks in marks.chunks(MARKS_AT_ONCE) {
                    index.apply(marks.to_vec()).await?;
                }
                let Some(next) = next else { break };
                after = Some(next);
            }
        }
        let mut after = None;
        loop {
            let (digests, next) = index.stale_marks(after, self.round(), STEP).await?;
            if !digests.is_empty() {
                index.apply(vec![Change::from(Unmark { digests, before: self.round() })]).await?;
            }
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }
}
