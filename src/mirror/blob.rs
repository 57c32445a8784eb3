//! A blob: held and granted, held and proved, joined, or filled.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{BlobAnswer, Outcome, Provenance};
use super::error::PullError;
use super::grants::Proof;
use super::negative_cache::Asked;
use super::registries::Registry;
use super::{Mirror, Target};
use crate::cache::blocks::BlockWatch;
use crate::cache::{Cache, MemoryBlob, SMALL_BYTES, scrub};
use crate::fill::{BlobSource, Fill, FillError, FillSource, Priority, WITHHELD_BYTES, read_whole};
use crate::index::{BlobRow, Generation, GrantRow, Scope};
use crate::metrics::ByAuthority;
use crate::oci::Digest;
use crate::store::BlobFile;
use crate::upstream::{Deadline, Failure};

/// The treatment of a blob that is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Download it.
    Get,
    /// Only tell whether it is there: HEAD never starts a fill.
    Head,
}

/// The outcome of one attempt, other than an error.
#[expect(clippy::large_enum_variant, reason = "a request has one of them, for a moment, on its stack")]
enum Attempt {
    Answer(BlobAnswer),
    /// A fill began anew or ended, or stored bytes have gone: what is held has changed.
    Again,
    /// The blob cannot be stored or read here, for this reason.
    PassThrough(String),
}

/// So often a request tries again after a fill that began anew, or stored bytes that have gone.
const MAX_ATTEMPTS: usize = 3;

/// One request for a blob.
struct BlobRequest<'m> {
    mirror: &'m Arc<Mirror>,
    registry: Arc<Registry>,
    scope: Scope,
    digest: Digest,
    intent: Intent,
    /// One second longer than the fill's own deadline, so the client gets the fill's error.
    deadline: Deadline,
}

/// A blob as it is recorded and stored, and the generation that this was read at.
struct Held {
    grant: Option<GrantRow>,
    stored: Option<(BlobRow, BlobFile)>,
    generation: Generation,
}

impl Mirror {
    /// A blob, or its size. The steps are those of the [module page](super).
    pub async fn blob(
        self: &Arc<Self>,
        target: &Target,
        digest: Digest,
        intent: Intent,
    ) -> Result<BlobAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        let deadline = registry.client().answer_deadline() + Duration::from_secs(1);
        let request = BlobRequest { mirror: self, registry, scope, digest, intent, deadline };
        for _attempt in 0..MAX_ATTEMPTS {
            if let Some(blocked) = request.blocked() {
                return Err(blocked);
            }
            if let Some(answer) = request.in_memory() {
                return Ok(request.watched(answer));
            }
            let held = request.held().await;
            let attempt = if request.is_stored_unusable() {
                request.without_stored_bytes()
            } else if let (Some(grant), Some(stored)) = (&held.grant, &held.stored) {
                Ok(request.serve_stored(grant, stored, held.generation).await)
            } else if request.is_missing(&held) {
                Err(request.registry.not_found(true))
            } else if let Some(denial) = request.denial(&held) {
                Err(denial)
            } else if let Some(proved) = request.prove(&held).await.transpose() {
                proved
            } else if let Some(fill) = self.fills.running(&request.scope.authority, digest) {
                request.join(&held, fill).await
            } else if intent == Intent::Head {
                request.head(&held).await
            } else {
                request.fill(&held).await
            };
            match attempt {
                // It may have been blocked while upstream was asked.
                Ok(Attempt::Answer(answer)) => {
                    return match request.blocked() {
                        None => Ok(request.watched(answer)),
                        Some(blocked) => Err(blocked),
                    };
                }
                Ok(Attempt::Again) => {}
                Ok(Attempt::PassThrough(why)) => {
                    let answer = request.pass_through(&why).await?;
                    return Ok(request.watched(answer));
                }
                Err(error) => return Err(request.remember(error)),
            }
        }
        Err(request.registry.client().error_at(0, Failure::BadDigest).into())
    }
}

impl BlobRequest<'_> {
    /// The answer, whose body ends when the blob is blocked. A body in one piece goes out with its headers.
    fn watched(self, mut answer: BlobAnswer) -> BlobAnswer {
        let takes_time = match answer.source {
            BlobSource::Memory(_) | BlobSource::Nothing => false,
            BlobSource::Stored(_) | BlobSource::Filling(_) | BlobSource::PassThrough(_) | BlobSource::Unproven(_) => {
                true
            }
        };
        let blocks = &self.mirror.cache.blocks;
        answer.watch = takes_time.then(|| BlockWatch::new(Arc::clone(blocks), self.scope, self.digest));
        answer
    }

    fn blocked(&self) -> Option<PullError> {
        self.mirror.cache.blocks.of_digest(&self.scope, self.digest).map(PullError::Blocked)
    }

    /// The blob, if this scope may read it and it is in memory, or its file is open.
    fn in_memory(&self) -> Option<BlobAnswer> {
        let Cache { memory, index, store, .. } = &*self.mirror.cache;
        let (grant, blob) = memory.blob(index, store, &self.scope, self.digest)?;
        if self.mirror.grants.is_unused(&self.registry, &grant) {
            return None;
        }
        self.mirror.grants.touch(&self.registry, &self.scope, self.digest, &grant);
        let (source, size_bytes) = match blob {
            MemoryBlob::Small(bytes) => (BlobSource::Memory(bytes.clone()), bytes.len() as u64),
            MemoryBlob::File(file, size_bytes) => (BlobSource::Stored(file), size_bytes),
        };
        Some(self.answer(source, size_bytes, Outcome::Hit))
    }

    /// Looks the blob up in the index and on the disk. If they fail, upstream is asked.
    async fn held(&self) -> Held {
        let (digest, cache) = (self.digest, &self.mirror.cache);
        let generation = cache.index.generation_of_digest(&self.scope, digest);
        let is_public = self.registry.policy.public;
        let (row, grant) = cache.index.blob(&self.scope, digest, is_public).await.unwrap_or_else(|err| {
            tracing::warn!(error = %err, %digest, "upstream is asked instead");
            (None, None)
        });
        let grant = self.mirror.grants.unless_unused(&self.registry, digest, grant).await;
        let stored = match row {
            Some(row) if !self.is_stored_unusable() => {
                let file = cache.open(digest, &row).await.unwrap_or_else(|err| {
                    tracing::warn!(%digest, error = %err, "a stored blob cannot be opened; it is passed through from upstream");
                    cache.mark_uncacheable(&self.scope.authority, digest);
                    None
                });
                file.map(|file| (row, file))
            }
            Some(_) | None => None,
        };
        Held { grant, stored, generation }
    }

    /// Whether the disk does not give the stored bytes, or they are known to be bad. Where upstream is never asked, bytes
    /// that could not be read are tried again.
    fn is_stored_unusable(&self) -> bool {
        let store = &self.mirror.cache.store;
        store.is_unreadable(self.digest) && (!self.registry.policy.offline || store.is_known_bad(self.digest))
    }

    /// Passes the blob through, if there is somewhere to get it from.
    fn without_stored_bytes(&self) -> Result<Attempt, PullError> {
        if self.registry.policy.offline {
            return Err(self.registry.not_found(true));
        }
        // Read again, or moved away, in a moment; no second client is cut until then.
        self.mirror.cache.retry_soon();
        Ok(Attempt::PassThrough("the disk does not give the stored bytes".to_owned()))
    }

    /// Serves a stored blob that this scope may read, and keeps it in memory, or its file open, for the next request. A
    /// small one that is damaged shows itself here, and is fetched again.
    async fn serve_stored(
        &self,
        grant: &GrantRow,
        (row, file): &(BlobRow, BlobFile),
        generation: Generation,
    ) -> Attempt {
        let (digest, cache, scope) = (self.digest, &self.mirror.cache, &self.scope);
        let size_bytes = row.size_bytes;
        self.mirror.grants.touch(&self.registry, scope, digest, grant);
        if size_bytes > SMALL_BYTES {
            cache.memory.keep_file(&cache.index, scope, digest, (file, size_bytes), generation);
        } else if cache.memory.content(digest).is_none() {
            let length = usize::try_from(size_bytes).unwrap_or(usize::MAX);
            if let Ok(bytes) = file.read(0, length).await {
                if Digest::of(digest.algorithm(), &bytes) != digest {
                    if let Ok(file_id) = file.file_id() {
                        scrub::take_out(cache, digest, file_id).await;
                    }
                    return Attempt::Again;
                }
                cache.memory.keep_content(digest, bytes);
            }
        }
        cache.memory.keep_blob(scope, digest, size_bytes, grant.clone(), generation);
        Attempt::Answer(self.answer(BlobSource::Stored(file.clone()), size_bytes, Outcome::Hit))
    }

    fn is_missing(&self, held: &Held) -> bool {
        let is_known_missing = || self.mirror.negative_cache.is_missing(&self.scope, Asked::Blob(self.digest));
        self.registry.policy.offline || (held.grant.is_none() && is_known_missing())
    }

    /// A denial that is still believed, where the scope has no grant.
    fn denial(&self, held: &Held) -> Option<PullError> {
        if held.grant.is_some() {
            return None;
        }
        self.mirror.negative_cache.denial(&self.scope, Asked::Blob(self.digest))
    }

    /// Asks upstream whether this scope may read what is stored. `None` if nothing is, or if upstream cannot show a part of
    /// it: the whole blob is proof as well.
    async fn prove(&self, held: &Held) -> Result<Option<Attempt>, PullError> {
        let Some((row, file)) = &held.stored else { return Ok(None) };
        match self.mirror.grants.prove(&self.registry, &self.scope, self.digest, (row, file)).await {
            Ok(Proof::Granted) => {
                let source = BlobSource::Stored(file.clone());
                Ok(Some(Attempt::Answer(self.answer(source, row.size_bytes, Outcome::Revalidated))))
            }
            Ok(Proof::Again) => Ok(Some(Attempt::Again)),
            Ok(Proof::PassThrough(why)) => Ok(Some(Attempt::PassThrough(why))),
            Err(PullError::Upstream(error)) if error.failure == Failure::RangeNotThere => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows a running fill, if this scope may read the blob.
    async fn join(&self, held: &Held, fill: Arc<Fill>) -> Result<Attempt, PullError> {
        if held.grant.is_none() && !fill.is_granted(&self.scope) {
            let client = self.registry.client();
            let told = client.probe_blob(&self.scope.repository, self.digest, client.answer_deadline()).await?;
            if told.is_none() || told != fill.size_bytes() {
                // No proof: wait until the fill has ended, then compare with the stored bytes.
                let mut watcher = fill.follow();
                drop(fill);
                watcher.ended(self.deadline).await;
                return Ok(Attempt::Again);
            }
            fill.grant(self.scope.clone());
            self.mirror.grants.grant_blob(&self.registry, &self.scope, self.digest).await;
        }
        self.follow(&fill, Outcome::Joined).await
    }

    /// HEAD of a blob that is not held.
    async fn head(&self, held: &Held) -> Result<Attempt, PullError> {
        let is_stored = held.stored.is_some();
        if !is_stored && self.has_changed(held) && self.mirror.cache.is_stored(&self.scope, self.digest).await {
            // A fill has ended since the look.
            return Ok(Attempt::Again);
        }
        let size_bytes = self.probe_size().await?;
        Ok(Attempt::Answer(self.answer(BlobSource::Nothing, size_bytes, Outcome::Fill)))
    }

    /// Starts a fill, or joins one that has started since.
    async fn fill(&self, held: &Held) -> Result<Attempt, PullError> {
        let cache = &self.mirror.cache;
        if cache.is_uncacheable(&self.scope.authority, self.digest) {
            return Ok(Attempt::PassThrough("the disk failed or was full a moment ago".to_owned()));
        }
        // An earlier fill that has ended since the look would have bumped the generation.
        let may_be_stored = || held.stored.is_none() && self.has_changed(held);
        let source = &self.registry.source;
        let (fill, is_new) =
            self.mirror.fills.join_or_start(source, &self.scope, self.digest, Priority::Client, may_be_stored);
        if !is_new && held.grant.is_none() && !fill.is_granted(&self.scope) {
            // Another scope's fill began since: ask again, as for any running one.
            return Ok(Attempt::Again);
        }
        self.follow(&fill, if is_new { Outcome::Fill } else { Outcome::Joined }).await
    }

    /// Whether anything known of the blob has changed since it was looked up.
    fn has_changed(&self, held: &Held) -> bool {
        self.mirror.cache.index.generation_of_digest(&self.scope, self.digest) != held.generation
    }

    /// Waits until the answer can begin, for as long as any other answer. The fill itself goes on.
    async fn follow(&self, fill: &Fill, outcome: Outcome) -> Result<Attempt, PullError> {
        let mut watcher = fill.follow();
        let longest_gap = self.registry.client().settings().response_timeout;
        let (size_bytes, partial) = match watcher.begun(self.deadline, longest_gap).await {
            Ok(Some(size_and_file)) => size_and_file,
            Ok(None) => return Err(self.too_late()),
            Err(FillError::Again) => return Ok(Attempt::Again),
            Err(FillError::PassThrough(why)) => return Ok(Attempt::PassThrough(why)),
            Err(FillError::Blocked(_)) if self.blocked().is_none() => {
                // The block was taken back: once this download has ended, the next one may begin.
                watcher.ended(self.deadline).await;
                return Ok(Attempt::Again);
            }
            Err(error) => return Err(error.into()),
        };
        let is_lazy = self.registry.policy.is_lazy(&self.scope.repository);
        let source = &self.registry.source;
        let lazy = is_lazy.then(|| self.mirror.fills.pass_through(source, &self.scope, self.digest, size_bytes));
        let source = BlobSource::Filling(FillSource::new(watcher, partial, lazy));
        Ok(Attempt::Answer(self.answer(source, size_bytes, outcome)))
    }

    /// A full or failing disk never fails a pull: each request reads upstream for itself.
    async fn pass_through(&self, why: &str) -> Result<BlobAnswer, PullError> {
        let (client, digest, name) = (self.registry.client(), self.digest, self.registry.name());
        let begin = async {
            if !client.has_good_endpoint(digest) {
                return Err(client.error_at(0, Failure::BadDigest).into());
            }
            let size_bytes = self.probe_size().await?;
            if self.intent == Intent::Head {
                return Ok((BlobSource::Nothing, size_bytes));
            }
            tracing::warn!(authority = name, %digest, error = why, "a blob is passed through without storing it");
            let metrics = &self.mirror.cache.context.metrics;
            metrics.uncached_streams.get_or_create(&ByAuthority::of(name)).inc();
            let source = self.mirror.fills.pass_through(&self.registry.source, &self.scope, digest, size_bytes);
            if size_bytes <= WITHHELD_BYTES {
                return Ok((BlobSource::Memory(read_whole(source).await?), size_bytes));
            }
            source.take_place().await?;
            Ok((BlobSource::PassThrough(source), size_bytes))
        };
        let opened = tokio::time::timeout_at(self.deadline, begin).await;
        let (source, size_bytes) = opened.unwrap_or_else(|_elapsed| Err(self.too_late()))?;
        Ok(self.answer(source, size_bytes, Outcome::Fill))
    }

    async fn probe_size(&self) -> Result<u64, PullError> {
        let client = self.registry.client();
        let size = client.probe_blob(&self.scope.repository, self.digest, client.answer_deadline()).await?;
        let untold = || Failure::Refused("it does not tell the blob's size".to_owned());
        Ok(size.ok_or_else(|| client.error_at(0, untold()))?)
    }

    fn answer(&self, source: BlobSource, size_bytes: u64, outcome: Outcome) -> BlobAnswer {
        BlobAnswer { digest: self.digest, size_bytes, source, watch: None, provenance: Provenance::of(outcome) }
    }

    fn too_late(&self) -> PullError {
        self.registry.client().error_at(0, Failure::Timeout("a download may go on; ask again")).into()
    }

    /// Believes a 404 or a denial for a while.
    fn remember(&self, error: PullError) -> PullError {
        let (cache, asked) = (&self.mirror.negative_cache, Asked::Blob(self.digest));
        let ttl = self.registry.policy.negative_ttl;
        if error.is_not_found() {
            cache.remember(&self.scope, asked, ttl);
        } else {
            cache.remember_denial(&self.scope, asked, &error, ttl);
        }
        error
    }
}
