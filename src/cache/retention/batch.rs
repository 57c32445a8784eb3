//! One batch of eviction. It is a task of its own, so that its caller may leave: a batch that is cut between a file and
//! its record would leave the index behind the disk.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::cache::Cache;
use crate::index::{BeginEviction, Candidate, Change, EndEviction, IndexError, Search};
use crate::metrics::ByEviction;
use crate::oci::Digest;
use crate::store::{Evicted, FaultKind};

use super::{EvictionGoal, Evictor, Reason};

/// Blobs, and bytes, of one batch.
const BATCH_BLOBS: usize = 64;
const BATCH_BYTES: u64 = 256 * 1024 * 1024;

/// While the index is behind its log, what was used so lately is kept: a pin of it may be among the facts it lacks.
const LATELY: Duration = Duration::from_mins(10);

/// The right to evict: one batch at a time, whoever needs it.
pub(super) type EvictionPermit = OwnedSemaphorePermit;

/// What one batch did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Batch {
    /// Whether the index knows of it.
    pub(super) is_recorded: bool,
    pub(super) blobs: u64,
    pub(super) bytes: u64,
    /// Whether the next batch will find other blobs.
    finds_others: bool,
}

impl Batch {
    /// Whether another batch may do more.
    pub(super) const fn may_go_on(&self) -> bool {
        self.finds_others
    }
}

/// What became of the candidates.
#[derive(Default)]
struct Sorted {
    /// Their files are not there any more.
    gone: Vec<Digest>,
    /// The subset of `gone` whose files were there before.
    removed: HashSet<Digest>,
    undeletable: Vec<Digest>,
}

impl Evictor {
    /// Waits for the right to evict.
    pub(super) async fn permit(&self) -> Option<EvictionPermit> {
        // Nobody closes it.
        Arc::clone(&self.cache.evicting).acquire_owned().await.ok()
    }

    /// One batch; gives the permit back. If nobody waits for it any more, the batch goes on all the same, and has the permit
    /// until its end. `None` if it panicked.
    pub(super) fn evict_batch(
        self: &Arc<Self>,
        permit: EvictionPermit,
        goal: EvictionGoal,
    ) -> impl Future<Output = Option<(EvictionPermit, Batch)>> + Send + use<> {
        let evictor = Arc::clone(self);
        let batch = self.cache.context.tasks.spawn(async move {
            let batch = evictor.evict_candidates(goal).await;
            (permit, batch)
        });
        async move { batch.await.ok() }
    }

    /// Removes these from the disk, whether pins keep them or not. What somebody works with stays. Returns the blobs that are
    /// gone, and their bytes; `None` if it could not go on.
    pub async fn remove(self: &Arc<Self>, content: Vec<Candidate>) -> Option<(u64, u64)> {
        let (mut blobs, mut bytes) = (0, 0);
        for some in content.chunks(BATCH_BLOBS) {
            let permit = self.permit().await?;
            let (evictor, some) = (Arc::clone(self), some.to_vec());
            let batch = self.cache.context.tasks.spawn(async move {
                let batch = evictor.evict(some, Reason::Removed).await;
                drop(permit);
                batch
            });
            let batch = batch.await.ok()?;
            blobs += batch.blobs;
            bytes += batch.bytes;
        }
        Some((blobs, bytes))
    }

    async fn evict_candidates(&self, goal: EvictionGoal) -> Batch {
        let EvictionGoal { reason, bytes, authorities, unused_since } = goal;
        let (cache, index) = (&self.cache, &self.cache.index);
        // What was used a moment ago is not the coldest.
        cache.access_times.write(index).await;
        let mut except: HashSet<Digest> = cache.leases.digests().into_iter().collect();
        except.extend(self.undeletable());
        let (now, is_behind) = (cache.access_time(), index.is_behind());
        let not_lately = is_behind.then(|| now.before(LATELY));
        let search = Search {
            now,
            authorities,
            unused_since: unused_since.into_iter().chain(not_lately).min(),
            used_lately: cache.access_times.lately(),
            except,
            bytes: bytes.min(BATCH_BYTES),
            blobs: BATCH_BLOBS,
        };
        match self.search(search).await {
            Ok(candidates) => {
                // The index may have lost marks of pins since they were looked at.
                let is_sure = cache.pins.are_known(index) && index.is_behind() == is_behind;
                if candidates.is_empty() || !is_sure { Batch::default() } else { self.evict(candidates, reason).await }
            }
            Err(err) => {
                tracing::warn!(error = %err, "nothing can be evicted: the index does not say what is cold");
                Batch::default()
            }
        }
    }

    /// The coldest blobs. What somebody is reading frees nothing when it is removed, and is found only if nothing else is.
    async fn search(&self, search: Search) -> Result<Vec<Candidate>, IndexError> {
        let mut first = search.clone();
        first.except.extend(self.open());
        let found = self.cache.index.candidates(first).await?;
        if found.is_empty() { self.cache.index.candidates(search).await } else { Ok(found) }
    }

    /// Blobs whose files are open, for others than the memory tier.
    fn open(&self) -> impl Iterator<Item = Digest> {
        let Cache { store, memory, .. } = &*self.cache;
        let open = store.open_blobs().into_iter();
        open.filter(|(digest, count)| *count > usize::from(memory.keeps_file(*digest))).map(|(digest, _)| digest)
    }

    async fn evict(&self, candidates: Vec<Candidate>, reason: Reason) -> Batch {
        let cache = &self.cache;
        let digests: Vec<Digest> = candidates.iter().map(|candidate| candidate.digest).collect();
        // On a full disk the mark may not be written, and eviction is what cures that. Without the mark, a crash leaves
        // records without files, which are misses.
        let marked = cache.index.apply_durably(vec![Change::from(BeginEviction(digests.clone()))]).await;
        if matches!(marked, Err(IndexError::Closed)) {
            // It would not hear what has gone, either.
            return Batch::default();
        }
        // Leases that began since are respected, too.
        let leased: HashSet<Digest> = cache.leases.digests().into_iter().collect();
        let (spared, going): (Vec<Digest>, Vec<Digest>) =
            digests.into_iter().partition(|digest| leased.contains(digest));
        let evicted = match cache.store.evict(going).await {
            Ok(evicted) => evicted,
            Err(err) => {
                // The marks stay: the next start looks at them.
                tracing::warn!(error = %err, "evicting failed; the disk does not answer as it should");
                return Batch::default();
            }
        };
        let can_pass = self.undeletable().len() < FaultKind::Undeletable.max();
        let sorted = self.sort(evicted);
        let stays = sorted.undeletable.iter().copied().chain(spared).collect();
        let ends = vec![
            Change::from(EndEviction { digests: sorted.gone.clone(), gone: true }),
            Change::from(EndEviction { digests: stays, gone: false }),
        ];
        let is_recorded = cache.index.apply(ends).await.is_ok();
        if !is_recorded {
            // The index names them until it can be written again: without this, each batch would find the same.
            for digest in &sorted.gone {
                let _logged_already = self.is_undeletable(*digest);
            }
        }
        let has_progress = if is_recorded { !sorted.gone.is_empty() } else { !sorted.removed.is_empty() };
        let finds_others = has_progress || (can_pass && !sorted.undeletable.is_empty());
        let (blobs, bytes) = self.count(candidates, &sorted.removed, reason);
        cache.show_stored();
        Batch { is_recorded, blobs, bytes, finds_others }
    }

    /// Its file could not be removed, or its record. `true` if that was not known.
    fn is_undeletable(&self, digest: Digest) -> bool {
        let now = self.cache.context.clock.now();
        self.cache.store.faults().add_now(FaultKind::Undeletable, digest, now)
    }

    /// Blobs that are not to be tried now: others go instead.
    fn undeletable(&self) -> Vec<Digest> {
        self.cache.store.faults().digests(FaultKind::Undeletable, self.cache.context.clock.now())
    }

    /// Drops from memory what is gone, and logs what cannot be removed.
    fn sort(&self, evicted: Vec<(Digest, Evicted)>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut newly_undeletable = Vec::new();
        for (digest, outcome) in evicted {
            if let Evicted::Undeletable(err) = outcome {
                sorted.undeletable.push(digest);
                if self.is_undeletable(digest) {
                    newly_undeletable.push((digest, err));
                }
                continue;
            }
            self.cache.forget(digest);
            self.cache.store.faults().remove(FaultKind::Undeletable, digest);
            sorted.gone.push(digest);
            if matches!(outcome, Evicted::Removed) {
                sorted.removed.insert(digest);
            }
        }
        if let Some((digest, err)) = newly_undeletable.first() {
            tracing::warn!(blobs = newly_undeletable.len(), %digest, error = %err,
                "blobs cannot be evicted, this one among them; others go instead, and these are tried again");
        }
        sorted
    }

    /// Counts the blobs that were removed, and their bytes.
    fn count(&self, candidates: Vec<Candidate>, removed: &HashSet<Digest>, reason: Reason) -> (u64, u64) {
        let metrics = &self.cache.context.metrics;
        let (mut blobs, mut bytes) = (0, 0);
        for candidate in candidates.into_iter().filter(|candidate| removed.contains(&candidate.digest)) {
            blobs += 1;
            bytes += candidate.size_bytes;
            let authority = self.cache.label(&candidate.authority);
            let labels = ByEviction { authority, reason: reason.name() };
            metrics.evicted_blobs.get_or_create(&labels).inc();
            metrics.evicted_bytes.get_or_create(&labels).inc_by(candidate.size_bytes);
        }
        (blobs, bytes)
    }
}
