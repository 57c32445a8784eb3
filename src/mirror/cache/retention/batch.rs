//! One step of eviction, as a task of its own: whoever waits for it may leave. A step that is cut between a file and its row
//! would leave the index behind the disk.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::index::{Candidate, Change, IndexError, Search};
use crate::metrics::ByEviction;
use crate::oci::Digest;
use crate::store::Evicted;

use super::{EvictionGoal, Reason};
use crate::mirror::Mirror;

/// Blobs, and bytes, of one step.
const STEP_BLOBS: usize = 64;
const STEP_BYTES: u64 = 256 * 1024 * 1024;

/// What was used so lately is kept while the index is without its last facts: what pins it may be among them.
const LATELY: Duration = Duration::from_mins(10);

/// The right to evict: one step at a time, whoever needs it.
pub(in crate::mirror) type EvictionPermit = OwnedSemaphorePermit;

/// What one step did.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::mirror) struct Step {
    /// Whether the index knows of it.
    pub(in crate::mirror) is_recorded: bool,
    pub(in crate::mirror) blobs: u64,
    pub(in crate::mirror) bytes: u64,
    /// Whether the next step will find other blobs.
    goes_on: bool,
}

impl Step {
    /// Whether another step may do more.
    pub(in crate::mirror) const fn went_on(&self) -> bool {
        self.goes_on
    }
}

/// What became of those that were to go.
#[derive(Default)]
struct Sorted {
    /// Their files are not there any more.
    gone: Vec<Digest>,
    /// Of those, the ones whose files were there.
    removed: HashSet<Digest>,
    undeletable: Vec<Digest>,
}

impl Mirror {
    /// Waits for the permit.
    pub(in crate::mirror) async fn eviction_permit(&self) -> Option<EvictionPermit> {
        // Nobody closes it.
        Arc::clone(&self.eviction.permit).acquire_owned().await.ok()
    }

    /// One step, by whoever has the permit, who gets it back. Where nobody waits for that any more, the step goes on all the
    /// same, and has the permit until its end. `None` if it panicked.
    pub(in crate::mirror) fn evict_step(
        self: &Arc<Self>,
        permit: EvictionPermit,
        wanted: EvictionGoal,
    ) -> impl Future<Output = Option<(EvictionPermit, Step)>> + Send + use<> {
        let mirror = Arc::clone(self);
        let step = self.tasks.spawn(async move {
            let step = mirror.step(wanted).await;
            (permit, step)
        });
        async move { step.await.ok() }
    }

    async fn step(&self, wanted: EvictionGoal) -> Step {
        let EvictionGoal { reason, bytes, authorities, unused_since } = wanted;
        // What was used a moment ago is not the coldest.
        self.write_accesses().await;
        let mut except = self.busy();
        except.extend(self.eviction.undeletable.digests());
        let (now, is_behind) = (self.monotonic(self.clock.now()), self.index.is_behind());
        let unlately = is_behind.then(|| now.before(LATELY));
        let search = Search {
            now,
            authorities,
            unused_since: unused_since.into_iter().chain(unlately).min(),
            except,
            bytes: bytes.min(STEP_BYTES),
            blobs: STEP_BLOBS,
        };
        match self.index.candidates(search).await {
            // The index may have lost marks of pins since somebody looked.
            Ok(cold) if !cold.is_empty() && self.are_pins_known() && self.index.is_behind() == is_behind => {
                self.evict(cold, reason).await
            }
            Ok(_) => Step::default(),
            Err(err) => {
                tracing::warn!(%err, "nothing can be evicted: the index does not say what is cold");
                Step::default()
            }
        }
    }

    /// What is being filled or held.
    pub(in crate::mirror) fn busy(&self) -> HashSet<Digest> {
        let mut busy = self.in_flight.digests();
        busy.extend(self.eviction.leases.digests());
        busy
    }

    async fn evict(&self, cold: Vec<Candidate>, reason: Reason) -> Step {
        let digests: Vec<Digest> = cold.iter().map(|cold| cold.digest).collect();
        // On a full disk the mark may not be written; space is what cures that. Without it, a crash leaves rows without
        // files, which are misses.
        if let Err(IndexError::Closed) = self.index.apply_durably(vec![Change::BeginEviction(digests.clone())]).await {
            // Nor would it hear what has gone.
            return Step::default();
        }
        // Those whose row does not go now, and those that were removed before, are counted anew.
        self.pending.doubt();
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
        let can_pass = self.eviction.undeletable.has_room();
        let sorted = self.sort(evicted);
        let stays = sorted.undeletable.iter().copied().chain(spared).collect();
        let recorded = self
            .index
            .apply(vec![
                Change::EndEviction { digests: sorted.gone.clone(), gone: true },
                Change::EndEviction { digests: stays, gone: false },
            ])
            .await;
        let is_recorded = recorded.is_ok();
        if !is_recorded {
            // The index names them until it can be written again: without this, each step would find the same.
            for digest in &sorted.gone {
                let _told_already = self.eviction.undeletable.insert(*digest);
            }
        }
        let finds_others = if is_recorded { !sorted.gone.is_empty() } else { !sorted.removed.is_empty() };
        let goes_on = finds_others || (can_pass && !sorted.undeletable.is_empty());
        let (blobs, bytes) = self.count_evicted(cold, &sorted.removed, reason);
        self.show_stored();
        Step { is_recorded, blobs, bytes, goes_on }
    }

    /// Tells who has what is gone in memory, and the log what stays against its will.
    fn sort(&self, evicted: Vec<(Digest, Evicted)>) -> Sorted {
        let undeletable = &self.eviction.undeletable;
        let mut sorted = Sorted::default();
        let mut newly_undeletable = Vec::new();
        for (digest, became) in evicted {
            if let Evicted::Undeletable(err) = became {
                sorted.undeletable.push(digest);
                if undeletable.insert(digest) {
                    newly_undeletable.push((digest, err));
                }
                continue;
            }
            self.forget_everywhere(digest);
            undeletable.remove(digest);
            sorted.gone.push(digest);
            if matches!(became, Evicted::Removed) {
                sorted.removed.insert(digest);
            }
        }
        if let Some((digest, err)) = newly_undeletable.first() {
            tracing::warn!(blobs = newly_undeletable.len(), %digest, %err,
                "blobs cannot be evicted, this one among them; others go instead, and these are tried again");
        }
        sorted
    }

    /// How many blobs were removed, and their bytes.
    fn count_evicted(&self, cold: Vec<Candidate>, removed: &HashSet<Digest>, reason: Reason) -> (u64, u64) {
        let (mut blobs, mut bytes) = (0, 0);
        for Candidate { size_bytes, authority, .. } in cold.into_iter().filter(|cold| removed.contains(&cold.digest)) {
            blobs += 1;
            bytes += size_bytes;
            let labels = ByEviction { authority: self.label_of(&authority), reason: reason.name() };
            self.metrics.evicted_blobs.get_or_create(&labels).inc();
            self.metrics.evicted_bytes.get_or_create(&labels).inc_by(size_bytes);
        }
        (blobs, bytes)
    }
}
