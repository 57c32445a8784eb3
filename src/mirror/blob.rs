//! A blob: may this scope read it, is it stored, is it being filled, else fill it.

use std::sync::Arc;
use std::time::Duration;

use crate::index::{BlobRow, Change, Generation, Scope};
use crate::oci::Digest;
use crate::store::BlobFile;
use crate::upstream::{Deadline, Failure};

use crate::mirror::answer::{BlobAnswer, Outcome, Provenance, PullError};
use crate::mirror::cache::memory::{MemoryBlob, SMALL_BYTES};
use crate::mirror::cache::scrub::TakenOut;
use crate::mirror::fill::progress::{Fill, WITHHELD_BYTES};
use crate::mirror::fill::reader::{self, BlobSource, FillSource, PassThroughSource};
use crate::mirror::negative_cache::Asked;
use crate::mirror::{Mirror, Registry, Target};

/// What is done about a blob that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Download it.
    Get,
    /// Only tell whether it is there: HEAD never starts a fill.
    Head,
}

/// After a disk failed or was full, a digest is passed through for so long before storing is tried again.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(30);

impl Mirror {
    pub async fn blob(
        self: &Arc<Self>,
        target: &Target,
        digest: Digest,
        intent: Intent,
    ) -> Result<BlobAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        // The fill has a little less, so that its own words reach the client.
        let deadline = registry.client.patience() + Duration::from_secs(1);
        // A fill that starts anew sends those who have nothing yet back here.
        for _try in 0..3 {
            match self.blob_once(&registry, &scope, digest, intent, deadline).await {
                Err(PullError::Restarted) => {}
                Err(PullError::Uncacheable(why)) => {
                    let pass_through = self.uncached(&registry, &scope, digest, intent, &why);
                    let late = |_elapsed| too_late(&registry);
                    return tokio::time::timeout_at(deadline, pass_through).await.map_err(late)?;
                }
                Err(error) => {
                    if error.is_not_found() {
                        self.remember_missing(&registry, &scope, Asked::Blob(digest));
                    }
                    return Err(error);
                }
                answer => return answer,
            }
        }
        Err(registry.client.error_at(0, Failure::BadDigest).into())
    }

    async fn blob_once(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        intent: Intent,
        deadline: Deadline,
    ) -> Result<BlobAnswer, PullError> {
        if let Some(held) = self.blob_in_memory(registry, scope, digest) {
            let (source, size_bytes) = match held {
                MemoryBlob::Small(bytes) => (BlobSource::Memory(bytes.clone()), bytes.len() as u64),
                MemoryBlob::File(file, size_bytes) => (BlobSource::Stored(file), size_bytes),
            };
            return Ok(BlobAnswer { digest, size_bytes, source, provenance: Provenance::of(Outcome::Hit) });
        }
        let generation = self.index.generation_of_digest(scope, digest);
        let (row, grant) = self.index.blob(scope, digest, registry.policy.public).await.unwrap_or_else(|err| {
            tracing::warn!(%err, %digest, "upstream is asked instead");
            (None, None)
        });
        let grant = self.unless_unused(registry, digest, grant).await;
        // What cannot be read is passed through, if there is somewhere to get it from.
        if registry.policy.offline && self.store.is_known_bad(digest) {
            return Err(registry.not_found(true));
        }
        let unreadable = self.store.is_unreadable(digest) && !registry.policy.offline;
        if unreadable {
            // Looked at again, or moved away, in a moment; nobody is cut twice until then.
            self.retry_soon();
            return Err(PullError::Uncacheable("the disk does not give the stored bytes".to_owned()));
        }
        let stored = match row {
            Some(row) => self.open_stored(digest, &row).await?.map(|file| (row, file)),
            None => None,
        };
        if let (Some(grant), Some((row, file))) = (&grant, &stored) {
            self.touch(registry, scope, digest, grant);
            self.keep_in_memory(scope, digest, row.size_bytes, file, generation).await?;
            self.memory.keep_blob(scope, digest, row.size_bytes, grant.clone(), generation);
            return Ok(stored_answer(digest, file.clone(), row.size_bytes, Outcome::Hit));
        }
        if registry.policy.offline || (grant.is_none() && self.is_known_missing(scope, Asked::Blob(digest))) {
            return Err(registry.not_found(true));
        }
        let is_stored = stored.is_some();
        if let Some((row, file)) = stored {
            match self.prove_blob(registry, scope, digest, &row, &file).await {
                Ok(()) => return Ok(stored_answer(digest, file, row.size_bytes, Outcome::Revalidated)),
                // Upstream does not serve ranges: the whole blob is proof as well.
                Err(PullError::Upstream(error)) if error.failure == Failure::RangeNotThere => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(fill) = self.in_flight.running(&scope.authority, digest) {
            if grant.is_none() && !fill.is_granted(scope) {
                let told = registry.client.probe_blob(&scope.repository, digest, registry.client.patience()).await?;
                if told.is_none() || told != fill.size_bytes() {
                    // No proof. The bytes are, once they are stored: they can be compared then.
                    let mut watcher = fill.follow();
                    drop(fill);
                    watcher.ended(deadline).await;
                    return Err(PullError::Restarted);
                }
                fill.grant(scope.clone());
                self.grant_blob(registry, scope, digest).await;
            }
            return follow(registry, &fill, Outcome::Joined, deadline).await;
        }
        if intent == Intent::Head {
            let may_be_stored = self.index.generation_of_digest(scope, digest) != generation;
            if may_be_stored && !is_stored && self.is_stored(scope, digest).await {
                // A fill has ended since the look.
                return Err(PullError::Restarted);
            }
            return self.head_only(registry, scope, digest).await;
        }
        if self.is_uncacheable(digest) {
            return Err(PullError::Uncacheable("the disk failed or was full a moment ago".to_owned()));
        }
        let new = || Fill::new(digest, scope.clone());
        let (fill, is_new) = self.in_flight.join_or_lead(&scope.authority, digest, new);
        if is_new {
            // An earlier fill that has ended since the look would have moved the generation.
            let may_be_stored = !is_stored && self.index.generation_of_digest(scope, digest) != generation;
            let lead = Arc::clone(self).lead(Arc::clone(registry), scope.clone(), Arc::clone(&fill), may_be_stored);
            self.tasks.spawn(lead);
            return follow(registry, &fill, Outcome::Fill, deadline).await;
        }
        if grant.is_none() && !fill.is_granted(scope) {
            // Another scope's fill began since: ask again, as for any running one.
            return Err(PullError::Restarted);
        }
        follow(registry, &fill, Outcome::Joined, deadline).await
    }

    /// Brings a stored blob into memory, or keeps its file open, for those who ask next. A small one that is damaged shows
    /// itself here, and is fetched again.
    async fn keep_in_memory(
        &self,
        scope: &Scope,
        digest: Digest,
        size_bytes: u64,
        file: &BlobFile,
        generation: Generation,
    ) -> Result<(), PullError> {
        if size_bytes > SMALL_BYTES {
            self.keep_file(scope, digest, file, size_bytes, generation);
            return Ok(());
        }
        if self.memory.content(digest).is_some() {
            return Ok(());
        }
        let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let Ok(bytes) = file.read(0, length).await else { return Ok(()) };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            if let Ok(file_id) = file.file_id() {
                self.take_out(digest, file_id).await;
            }
            return Err(PullError::Restarted);
        }
        self.memory.keep_content(digest, bytes);
        Ok(())
    }

    /// The stored file. A row without a file is a miss, and goes; so does a file of another size than was proven.
    pub(in crate::mirror) async fn open_stored(
        &self,
        digest: Digest,
        row: &BlobRow,
    ) -> Result<Option<BlobFile>, PullError> {
        match self.store.open_blob(digest).await {
            Ok(Some((file, size_bytes))) if size_bytes == row.size_bytes => Ok(Some(file)),
            Ok(Some((file, size_bytes))) => {
                if let Ok(file_id) = file.file_id()
                    && matches!(self.take_out(digest, file_id).await, TakenOut::ComesAgain | TakenOut::Lost)
                {
                    self.store.count_missing(row.size_bytes.saturating_sub(size_bytes));
                }
                Ok(None)
            }
            Ok(None) => {
                self.forget_in_memory(digest);
                let _lost = self.index.apply(vec![Change::RemoveMissing { digest, row: row.clone() }]).await;
                // It may have been evicted in this moment, and counted there.
                self.reconcile().await;
                Ok(None)
            }
            Err(err) => {
                tracing::warn!(%digest, %err, "a stored blob cannot be opened; it is passed through from upstream");
                self.uncacheable.insert(digest, self.clock.now());
                Ok(None)
            }
        }
    }

    async fn head_only(&self, registry: &Registry, scope: &Scope, digest: Digest) -> Result<BlobAnswer, PullError> {
        let upstream = &registry.client;
        let size = upstream.probe_blob(&scope.repository, digest, upstream.patience()).await?;
        let failure = || Failure::Refused("it does not tell the blob's size".to_owned());
        let size_bytes = size.ok_or_else(|| upstream.error_at(0, failure()))?;
        Ok(BlobAnswer { digest, size_bytes, source: BlobSource::Nothing, provenance: Provenance::of(Outcome::Fill) })
    }

    /// A full or failing disk never fails a pull: each request reads upstream for itself.
    async fn uncached(
        &self,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        intent: Intent,
        why: &str,
    ) -> Result<BlobAnswer, PullError> {
        if !registry.client.trusts_any(digest) {
            return Err(registry.client.error_at(0, Failure::BadDigest).into());
        }
        let answer = self.head_only(registry, scope, digest).await?;
        if intent == Intent::Head {
            return Ok(answer);
        }
        tracing::warn!(authority = registry.name(), %digest, why, "a blob is passed through without storing it");
        let counter = &self.metrics.uncached_streams;
        counter.get_or_create(&crate::metrics::ByAuthority::of(registry.name())).inc();
        let source = Box::new(PassThroughSource {
            registry: Arc::clone(registry),
            scope: scope.clone(),
            digest,
            size_bytes: answer.size_bytes,
            metrics: self.metrics.clone(),
        });
        let source = if answer.size_bytes <= WITHHELD_BYTES {
            BlobSource::Memory(reader::read_whole(source).await?)
        } else {
            BlobSource::Uncached(source)
        };
        Ok(BlobAnswer { source, ..answer })
    }

    fn is_uncacheable(&self, digest: Digest) -> bool {
        let since = self.uncacheable.get(&digest);
        since.is_some_and(|since| self.clock.now().since(since) < UNCACHEABLE_FOR)
    }
}

fn stored_answer(digest: Digest, file: BlobFile, size_bytes: u64, outcome: Outcome) -> BlobAnswer {
    BlobAnswer { digest, size_bytes, source: BlobSource::Stored(file), provenance: Provenance::of(outcome) }
}

/// Waits until the answer can begin, for as long as any other answer: the fill itself goes on.
async fn follow(
    registry: &Registry,
    running: &Fill,
    outcome: Outcome,
    deadline: Deadline,
) -> Result<BlobAnswer, PullError> {
    let mut watcher = running.follow();
    let begun = watcher.begun(deadline, registry.client.settings().response_timeout).await?;
    let (size_bytes, file) = begun.ok_or_else(|| too_late(registry))?;
    let source = BlobSource::Filling(FillSource { watcher, file });
    Ok(BlobAnswer { digest: running.digest, size_bytes, source, provenance: Provenance::of(outcome) })
}

fn too_late(registry: &Registry) -> PullError {
    registry.client.error_at(0, Failure::Timeout("a download may go on; ask again")).into()
}
