//! Pins: what is never evicted, with all that its manifests reach.
//!
//! What a pin reaches is marked in the index when it comes, so that nothing is looked up when something has to go. All
//! marks are made anew now and then, since tags move and pins are taken back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::index::{Change, IndexError, Roots, Scope};
use crate::oci::{Digest, PinPattern};

use super::Mirror;

/// Between two times that all marks are made.
const REFRESH_AFTER: Duration = Duration::from_hours(1);
/// Rows read, and roots marked, in one transaction.
const STEP: usize = 500;
const MARKS_AT_ONCE: usize = 16;

pub(super) struct Pins {
    configured: Vec<PinPattern>,
    all: RwLock<Arc<Vec<PinPattern>>>,
    /// Marks older than this are outdated. Seconds since the epoch.
    round: AtomicU64,
    refreshed: AtomicU64,
    /// Whether everything that is pinned is marked: before, nothing may go.
    known: watch::Sender<bool>,
}

impl Pins {
    pub(super) fn new(configured: Vec<PinPattern>, now: Timestamp) -> Self {
        Self {
            all: RwLock::new(Arc::new(configured.clone())),
            configured,
            round: AtomicU64::new(now.as_millis() / 1000),
            refreshed: AtomicU64::new(0),
            known: watch::Sender::new(false),
        }
    }

    fn all(&self) -> Arc<Vec<PinPattern>> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn round(&self) -> Timestamp {
        Timestamp::from_millis(self.round.load(Ordering::Relaxed) * 1000)
    }

    /// Resolves when everything that is pinned is marked.
    pub(super) async fn known(&self) {
        // The sender is here.
        let mut known = self.known.subscribe();
        let _never_closed = known.wait_for(|known| *known).await.is_ok();
    }

    pub(super) fn are_known(&self) -> bool {
        *self.known.borrow()
    }

    /// The mark for a manifest that came or was named, if a pin names it.
    pub(super) fn mark(&self, scope: &Scope, tag: Option<&str>, manifest: Digest) -> Option<Change> {
        let matches = |pin: &PinPattern| pin.matches(&scope.authority, &scope.repository, tag);
        let pinned = self.all().iter().any(matches);
        pinned.then(|| Change::MarkPinned { scope: scope.clone(), manifest, at: self.round() })
    }
}

impl Mirror {
    /// All pins: those of the configuration first.
    pub fn pins(&self) -> Vec<PinPattern> {
        self.eviction.pins.all().to_vec()
    }

    /// Pins durably; returns when everything held that it reaches is kept.
    pub async fn add_pin(&self, pin: PinPattern) -> Result<(), IndexError> {
        self.index.apply_durably(vec![Change::PutPin { pin, at: self.clock.now() }]).await?;
        self.refresh_pins().await;
        Ok(())
    }

    /// Takes a pin back that was made by [`Mirror::add_pin`]; those of the configuration stay. `false` if there is none.
    pub async fn remove_pin(&self, pin: &PinPattern) -> Result<bool, IndexError> {
        if !self.index.pins().await?.contains(pin) {
            return Ok(false);
        }
        self.index.apply_durably(vec![Change::RemovePin { pin: pin.clone() }]).await?;
        self.refresh_pins().await;
        Ok(true)
    }

    pub(super) async fn refresh_pins_if_due(&self) {
        let pins = &self.eviction.pins;
        let due = Timestamp::from_millis(pins.refreshed.load(Ordering::Relaxed)).plus(REFRESH_AFTER);
        if !pins.are_known() || (self.clock.now() >= due && !pins.all().is_empty()) {
            self.refresh_pins().await;
        }
    }

    /// Marks everything that is pinned, and drops the marks of what is not any more. Its time grows with the number of tags
    /// and manifests, where there are pins.
    pub(super) async fn refresh_pins(&self) {
        let pins = &self.eviction.pins;
        let now = self.clock.now();
        match self.mark_all(now).await {
            Ok(()) => {
                pins.refreshed.store(now.as_millis(), Ordering::Relaxed);
                pins.known.send_replace(true);
            }
            Err(err) => tracing::warn!(%err, "what is pinned cannot be told; nothing that may be is taken back"),
        }
    }

    async fn mark_all(&self, now: Timestamp) -> Result<(), IndexError> {
        let pins = &self.eviction.pins;
        let mut all = pins.configured.clone();
        all.extend(self.index.pins().await?);
        let is_empty = all.is_empty();
        *pins.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        // What is marked from here on is of this round.
        let round = pins.round.load(Ordering::Relaxed);
        pins.round.store((now.as_millis() / 1000).max(round + 1), Ordering::Relaxed);
        for roots in [Roots::Tags, Roots::Manifests].into_iter().filter(|_| !is_empty) {
            let mut after = None;
            loop {
                let (found, next) = self.index.roots(roots, after, STEP).await?;
                let marks = found.iter().filter_map(|root| pins.mark(&root.scope, root.tag.as_deref(), root.manifest));
                let marks: Vec<Change> = marks.collect();
                for marks in marks.chunks(MARKS_AT_ONCE) {
                    self.index.apply(marks.to_vec()).await?;
                }
                let Some(next) = next else { break };
                after = Some(next);
            }
        }
        let mut after = None;
        loop {
            let (digests, next) = self.index.outdated_marks(after, pins.round(), STEP).await?;
            if !digests.is_empty() {
                self.index.apply(vec![Change::Unmark { digests, before: pins.round() }]).await?;
            }
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }
}
