//! One step of eviction, as a task of its own: whoever waits for it may leave. A step that is cut between a file and its row
//! would leave the index behind the disk.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::index::{Change, Cold, IndexError, Search};
use crate::metrics::ByEviction;
use crate::oci::Digest;

use super::super::Mirror;
use super::{Reason, Wanted};

/// Blobs, and bytes, of one step.
const STEP_BLOBS: usize = 64;
const STEP_BYTES: u64 = 256 * 1024 * 1024;

/// The right to evict: one step at a time, whoever needs it.
pub(in crate::mirror) type Turn = OwnedSemaphorePermit;

/// What one step did.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::mirror) struct Step {
    /// Whether the index knows of it.
    pub(super) is_recorded: bool,
    pub(super) blobs: u64,
    pub(super) bytes: u64,
    /// Whether there was something that could not be removed, and that the next step passes over.
    has_passed: bool,
}

impl Step {
    /// Whether another step may do more.
    pub(in crate::mirror) const fn went_on(&self) -> bool {
        self.blobs > 0 || self.has_passed
    }
}

impl Mirror {
    /// Waits for the turn.
    pub(in crate::mirror) async fn eviction_turn(&self) -> Option<Turn> {
        // Nobody closes it.
        Arc::clone(&self.eviction.turn).acquire_owned().await.ok()
    }

    /// One step, by whoever has the turn, who gets it back. Where nobody waits for that any more, the step goes on all the
    /// same, and has the turn until its end. `None` if it panicked.
    pub(in crate::mirror) fn evict_step(
        self: &Arc<Self>,
        turn: Turn,
        wanted: Wanted,
    ) -> impl Future<Output = Option<(Turn, Step)>> + Send + use<> {
        let mirror = Arc::clone(self);
        let step = self.tasks.spawn(async move {
            let step = mirror.step(wanted).await;
            (turn, step)
        });
        async move { step.await.ok() }
    }

    async fn step(&self, wanted: Wanted) -> Step {
        let Wanted { reason, bytes, authorities, unused_since } = wanted;
        // What was used a moment ago is not the coldest.
        self.write_uses().await;
        let mut except = self.busy();
        except.extend(self.eviction.stuck.digests());
        let search = Search {
            now: self.in_order(self.clock.now()),
            authorities,
            unused_since,
            except,
            bytes: bytes.min(STEP_BYTES),
            blobs: STEP_BLOBS,
        };
        match self.index.coldest(search).await {
            // The index may have lost marks of pins since somebody looked.
            Ok(cold) if !cold.is_empty() && self.are_pins_known() => self.evict(cold, reason).await,
            Ok(_) => Step::default(),
            Err(err) => {
                tracing::warn!(%err, "nothing can be evicted: the index does not say what is cold");
                Step::default()
            }
        }
    }

    /// What is being filled or held.
    pub(in crate::mirror) fn busy(&self) -> HashSet<Digest> {
        let mut busy = self.flights.digests();
        busy.extend(self.eviction.holds.digests());
        busy
    }

    async fn evict(&self, cold: Vec<Cold>, reason: Reason) -> Step {
        let digests: Vec<Digest> = cold.iter().map(|cold| cold.digest).collect();
        // On a full disk the mark may not be written; space is what cures that. Without it, a crash leaves rows without
        // files, which are misses.
        if let Err(IndexError::Closed) = self.index.apply_durably(vec![Change::BeginEviction(digests.clone())]).await {
            // Nor would it hear what has gone.
            return Step::default();
        }
        // Those whose row does not go now, and those that were removed before, are counted anew.
        self.accounts.doubt();
        // What began since is passed over.
        let busy = self.busy();
        let (spared, going): (Vec<Digest>, Vec<Digest>) = digests.into_iter().partition(|digest| busy.contains(digest));
        let evicted = match self.store.evict(going).await {
            Ok(evicted) => evicted,
            Err(err) => {
                // The marks stay: the next start looks at them.
                tracing::warn!(%err, "evicting failed; the disk does not answer as it should");
                return Step::default();
            }
        };
        let (stuck, spared_blobs) = (&self.eviction.stuck, spared.len());
        let can_pass = stuck.has_room();
        let (mut gone, mut stays, mut failed) = (HashSet::new(), spared, Vec::new());
        for evicted in evicted {
            match evicted.gone {
                Ok(()) => {
                    self.forget_everywhere(evicted.digest);
                    stuck.remove(evicted.digest);
                    gone.insert(evicted.digest);
                }
                Err(err) => {
                    stays.push(evicted.digest);
                    if stuck.insert(evicted.digest) {
                        failed.push((evicted.digest, err));
                    }
                }
            }
        }
        if let Some((digest, err)) = failed.first() {
            tracing::warn!(blobs = failed.len(), %digest, %err,
                "blobs cannot be evicted, this one among them; others go instead, and these are tried again");
        }
        let has_failed = stays.len() > spared_blobs;
        let recorded = self
            .index
            .apply(vec![
                Change::EndEviction { digests: gone.iter().copied().collect(), gone: true },
                Change::EndEviction { digests: stays, gone: false },
            ])
            .await;
        let mut step = Step { is_recorded: recorded.is_ok(), has_passed: can_pass && has_failed, ..Step::default() };
        for Cold { size_bytes, authority, .. } in cold.into_iter().filter(|cold| gone.contains(&cold.digest)) {
            step.blobs += 1;
            step.bytes += size_bytes;
            let labels = ByEviction { authority: self.label_of(&authority), reason: reason.name() };
            self.metrics.evicted_blobs.get_or_create(&labels).inc();
            self.metrics.evicted_bytes.get_or_create(&labels).inc_by(size_bytes);
        }
        self.show_stored();
        step
    }
}
