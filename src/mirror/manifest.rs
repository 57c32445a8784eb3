//! A manifest by its digest: held and granted, or fetched, compared and kept.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::Mirror;
use super::answer::{ManifestAnswer, Outcome, Provenance};
use super::completion::{Pull, Reach, begin_blobs, lacking};
use super::error::PullError;
use super::negative_cache::Asked;
use super::policy::OnDenied;
use super::registries::Registry;
use crate::cache::{Cache, Manifest, scrub};
use crate::coalesce::Coalesce;
use crate::index::{BlobRow, Change, ManifestFacts, PutBlob, PutChildren, PutReferrer, ReferrerRow, Scope};
use crate::metrics::ByAuthority;
use crate::oci::{Algorithm, Digest, Inspected, NotAManifest, Reference};
use crate::shared_bytes::{Crowded, SHORT};
use crate::store::Verified;
use crate::upstream::{Deadline, Failure, FetchedManifest};

/// Fetches of manifests by digest, one for each scope and digest.
pub(super) type ManifestFetches = Coalesce<(Scope, Digest), Result<(Manifest, Outcome), PullError>>;

/// What a child, or an annotation, costs besides its text. Bytes.
const ENTRY_BYTES: usize = 128;
/// Long manifests that are read from the disk at one time.
static READERS: Semaphore = Semaphore::const_new(4);

impl Manifest {
    pub(super) fn answer(self, provenance: Provenance) -> ManifestAnswer {
        ManifestAnswer { digest: self.digest, media_type: self.media_type, bytes: self.bytes, provenance }
    }
}

impl Mirror {
    pub(super) async fn manifest_by_digest(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
    ) -> Result<ManifestAnswer, PullError> {
        if let Some(held) = self.granted_manifest(registry, scope, digest).await? {
            self.refuse_incomplete(registry, scope, &held).await?;
            return Ok(held.answer(Provenance::of(Outcome::Hit)));
        }
        let asked = Asked::Manifest(Reference::Digest(digest));
        if registry.policy.offline || self.negative_cache.is_missing(scope, asked.clone()) {
            return Err(registry.not_found(true));
        }
        if let Some(denial) = self.negative_cache.denial(scope, asked) {
            return Err(denial);
        }
        let look = || {
            let (mirror, registry, scope) = (Arc::clone(self), Arc::clone(registry), scope.clone());
            Pull::carry(async move {
                let held = mirror.granted_manifest(&registry, &scope, digest).await.transpose()?;
                Some(held.map(|held| (held, Outcome::Hit)))
            })
        };
        let fetch = || {
            let (mirror, registry, scope) = (Arc::clone(self), Arc::clone(registry), scope.clone());
            Pull::carry(async move {
                let deadline = registry.client().answer_deadline();
                let fetched = mirror.obtain(&registry, &scope, digest, deadline).await;
                let asked = Asked::Manifest(Reference::Digest(digest));
                let ttl = registry.policy.negative_ttl;
                match &fetched {
                    Err(error) if error.is_not_found() => mirror.negative_cache.remember(&scope, asked, ttl),
                    Err(error) if error.is_denied() => {
                        mirror.negative_cache.remember_denial(&scope, asked, error, ttl);
                        if registry.policy.on_denied == OnDenied::Refuse {
                            mirror.grants.revoke(&registry, &scope, Some(digest)).await;
                        }
                    }
                    _ => {}
                }
                fetched
            })
        };
        let (fetched, role) = self.manifest_fetches.run_unless((scope.clone(), digest), look, fetch).await?;
        let (manifest, outcome) = fetched?;
        Ok(manifest.answer(Provenance::of(outcome.seen_by(role))))
    }

    /// While upstream has failed and not answered since: a held manifest whose content cannot be served is refused, unless
    /// upstream turns out to be back. Costs nothing while all is well.
    pub(super) async fn refuse_incomplete(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        manifest: &Manifest,
    ) -> Result<(), PullError> {
        let client = registry.client();
        let reach = Reach { manifests: !client.is_manifests_tripped(), blobs: !client.is_blobs_tripped() };
        if reach.is_all() || registry.policy.offline {
            return Ok(());
        }
        let Some(lacks) = lacking(self, registry, scope, manifest, reach).await else { return Ok(()) };
        let deadline = Deadline::now() + registry.policy.check_timeout;
        let reference = Reference::Digest(manifest.digest);
        match client.head_manifest(&scope.repository, &reference, deadline).await.map_err(PullError::from) {
            Err(error) if error.could_not_be_asked() => Err(error.of_incomplete(lacks)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The manifest, if this scope may read it and its bytes are here.
    pub(super) async fn granted_manifest(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Result<Option<Manifest>, PullError> {
        let Cache { memory, index, .. } = &*self.cache;
        if let Some((grant, manifest)) = memory.manifest(index, scope, digest)
            && !self.grants.is_unused(registry, &grant)
            && registry.takes_manifest_of(manifest.bytes.len())
        {
            self.grants.touch(registry, scope, digest, &grant);
            return Ok(Some(manifest));
        }
        let generation = self.cache.index.generation_of_digest(scope, digest);
        let held = match self.cache.index.manifest(scope, digest, registry.policy.public).await {
            Ok(held) => held,
            Err(err) => {
                tracing::warn!(error = %err, %digest, "upstream is asked instead");
                return Ok(None);
            }
        };
        let Some(grant) = self.grants.unless_unused(registry, digest, held.grant).await else { return Ok(None) };
        let Some(media_type) = held.media_type.or_else(|| grant.media_type.clone()) else { return Ok(None) };
        let Some(bytes) = self.manifest_bytes(registry, digest, held.blob.as_ref()).await? else { return Ok(None) };
        self.grants.touch(registry, scope, digest, &grant);
        let manifest = Manifest { digest, media_type, bytes };
        if registry.policy.public && grant.may_add(&scope.repository) {
            // Pins go by repository, also where grants do not.
            self.grants.grant_manifest(registry, scope, &manifest).await;
            return Ok(Some(manifest));
        }
        self.cache.memory.keep_manifest(scope, &manifest, grant, generation);
        Ok(Some(manifest))
    }

    /// From memory, from another answer, else from disk. Damaged bytes go into quarantine, and are fetched again.
    async fn manifest_bytes(
        &self,
        registry: &Registry,
        digest: Digest,
        row: Option<&BlobRow>,
    ) -> Result<Option<Bytes>, PullError> {
        if let Some(bytes) = self.manifest_in_memory(registry, digest) {
            return Ok(Some(bytes));
        }
        let limit = registry.client().settings().max_manifest_size;
        let most = usize::try_from(row.map_or(limit, |row| row.size_bytes)).unwrap_or(usize::MAX);
        let _turn = if most > SHORT { READERS.acquire().await.ok() } else { None };
        // Another may have read it meanwhile.
        if let Some(bytes) = self.manifest_in_memory(registry, digest).filter(|_| most > SHORT) {
            return Ok(Some(bytes));
        }
        if row.is_some() && self.cache.index.contents().is_full_for(registry.client().authority().as_str(), most) {
            return Err(Crowded.into());
        }
        match self.cache.store.read_verified(digest, limit).await {
            Ok(Verified::Right(bytes)) => self.keep_content(registry, digest, &bytes).map(Some),
            Ok(Verified::Wrong(file_id)) => {
                scrub::take_out(&self.cache, digest, file_id).await;
                Ok(None)
            }
            Ok(Verified::TooLarge) => Ok(None),
            Ok(Verified::Missing) => {
                self.cache.remove_missing(digest).await;
                Ok(None)
            }
            Err(err) => {
                tracing::warn!(%digest, error = %err, "a stored manifest cannot be read; it is fetched again");
                Ok(None)
            }
        }
    }

    fn manifest_in_memory(&self, registry: &Registry, digest: Digest) -> Option<Bytes> {
        let Cache { memory, index, .. } = &*self.cache;
        let fits = |bytes: &Bytes| registry.takes_manifest_of(bytes.len());
        if let Some(bytes) = memory.content(digest) {
            return Some(bytes).filter(fits);
        }
        let bytes = index.contents().find(&digest).filter(fits)?;
        memory.keep_content(digest, bytes.clone());
        Some(bytes)
    }

    /// Verified bytes, as all answers with them have them.
    fn keep_content(&self, registry: &Registry, digest: Digest, bytes: &Bytes) -> Result<Bytes, PullError> {
        let owner = registry.client().authority().as_str();
        let bytes = self.cache.index.contents().share(owner, &digest, bytes.len(), || bytes.clone())?;
        self.cache.memory.keep_content(digest, bytes.clone());
        Ok(bytes)
    }

    /// Asks upstream for a manifest that this scope has no use of yet: HEAD where the bytes and their type are held from
    /// this authority, GET otherwise.
    pub(super) async fn obtain(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        deadline: Deadline,
    ) -> Result<(Manifest, Outcome), PullError> {
        let reference = Reference::Digest(digest);
        let upstream = registry.client();
        if let Some(held) = self.held_in_authority(registry, scope, digest).await? {
            match upstream.head_manifest(&scope.repository, &reference, deadline).await {
                // A front door says yes to everything with a page of its own: only who names the digest has it.
                Ok(head) if head.digest == Some(digest) => {
                    self.grants.grant_manifest(registry, scope, &held).await;
                    return Ok((held, Outcome::Revalidated));
                }
                Ok(_) => {}
                Err(error) if error.failure.leaves_it_to_get() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let fetched = upstream.get_manifest(&scope.repository, &reference, deadline).await?;
        if Digest::of(digest.algorithm(), &fetched.bytes) != digest {
            // The digest of a signed schema 1 manifest is that of a part of it.
            let inspected = Inspected::read(&fetched.bytes, fetched.content_type.as_ref());
            if matches!(inspected, Err(NotAManifest::Schema1)) {
                return Err(schema_1(registry, scope));
            }
            self.blame(registry, scope, &reference, fetched.endpoint);
            upstream.mark_bad(fetched.endpoint, digest);
            return Err(upstream.error_at(fetched.endpoint, Failure::BadDigest).into());
        }
        let manifest = self.keep_manifest(registry, scope, digest, &fetched).await?;
        Ok((manifest, Outcome::Fill))
    }

    /// The manifest, if another scope of this authority was served it and its bytes are here.
    pub(super) async fn held_in_authority(
        &self,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Result<Option<Manifest>, PullError> {
        let held = self.cache.index.manifest(scope, digest, registry.policy.public).await.ok();
        let Some(ManifestFacts { media_type: Some(media_type), blob, .. }) = held else { return Ok(None) };
        let bytes = self.manifest_bytes(registry, digest, blob.as_ref()).await?;
        Ok(bytes.map(|bytes| Manifest { digest, media_type, bytes }))
    }

    /// The digest that a body fetched by tag has: in the algorithm that upstream files it under, if that fits.
    pub(super) fn digest_of(fetched: &FetchedManifest) -> Digest {
        match fetched.claimed {
            Some(claimed) if Digest::of(claimed.algorithm(), &fetched.bytes) == claimed => claimed,
            _ => Digest::of(Algorithm::Sha256, &fetched.bytes),
        }
    }

    /// Records a fetched manifest under the digest its bytes have. The answer does not wait for the disk.
    pub(super) async fn keep_manifest(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        fetched: &FetchedManifest,
    ) -> Result<Manifest, PullError> {
        let upstream = registry.client();
        let inspected =
            Inspected::read(&fetched.bytes, fetched.content_type.as_ref()).map_err(|problem| match problem {
                NotAManifest::Schema1 => schema_1(registry, scope),
                NotAManifest::NotJson | NotAManifest::Ambiguous | NotAManifest::Untyped | NotAManifest::TooMany => {
                    let why = format!("what it sent is no manifest: {problem}");
                    upstream.error_at(fetched.endpoint, Failure::Refused(why)).into()
                }
            })?;
        // The type at the first verified fetch stands for this authority.
        let known = self
            .cache
            .index
            .manifest(scope, digest, registry.policy.public)
            .await
            .ok()
            .and_then(|held| held.media_type);
        let media_type = known.unwrap_or_else(|| inspected.media_type.clone());
        let manifest = Manifest { digest, media_type, bytes: self.keep_content(registry, digest, &fetched.bytes)? };
        self.grants.grant_manifest(registry, scope, &manifest).await;
        if self.cache.blocks.of_digest(scope, digest).is_none() {
            let used: Vec<Digest> = inspected.children.iter().map(|child| child.digest).collect();
            // The index has logged a failure; it is in force all the same.
            let _logged = self.cache.blocks.release(&self.cache.index, &used).await;
        }
        begin_blobs(self, registry, (scope.clone(), digest), &inspected);
        let origin = (upstream.authority(), registry.facts());
        let Some(permit) = self.evictor.may_store(origin, waiting_bytes(&manifest, &inspected)) else {
            return Ok(manifest);
        };
        let facts = self.facts_about(scope, &manifest, &inspected);
        let (evictor, source) = (Arc::clone(&self.evictor), Arc::clone(&registry.source));
        let bytes = manifest.bytes.clone();
        // Nothing goes for what no client has asked for.
        let may_evict = Pull::followed().is_none();
        self.cache.context.tasks.spawn(async move {
            let _waits = permit;
            evictor.store((source.client.authority(), &source.facts), digest, bytes, facts, may_evict).await;
        });
        Ok(manifest)
    }

    fn facts_about(&self, scope: &Scope, manifest: &Manifest, inspected: &Inspected) -> Vec<Change> {
        let digest = manifest.digest;
        let size_bytes = manifest.bytes.len() as u64;
        let stored = self.cache.access_time();
        let row = BlobRow { size_bytes, origin: Some(scope.authority.clone()), stored };
        let children = inspected.children.iter().map(|child| child.digest).collect();
        let mut facts =
            vec![Change::from(PutBlob { digest, row }), Change::from(PutChildren { manifest: digest, children })];
        facts.extend(inspected.subject.map(|subject| {
            let descriptor = serde_json::json!({
                "mediaType": manifest.media_type,
                "digest": digest,
                "size": size_bytes,
                "artifactType": inspected.artifact_type,
                "annotations": inspected.annotations,
            });
            Change::from(PutReferrer {
                scope: scope.clone(),
                subject,
                referrer: digest,
                row: ReferrerRow { descriptor },
            })
        }));
        facts
    }

    fn blame(&self, registry: &Registry, scope: &Scope, reference: &Reference, endpoint: usize) {
        let labels = ByAuthority::of(registry.name());
        self.cache.context.metrics.digest_mismatches.get_or_create(&labels).inc();
        let error = registry.client().error_at(endpoint, Failure::BadDigest);
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %reference, endpoint = %error.endpoint,
            "upstream sent a manifest that is not the one asked for; nothing of it was kept");
    }
}

/// What a manifest and the facts about it take in memory, about.
fn waiting_bytes(manifest: &Manifest, inspected: &Inspected) -> usize {
    let annotations = inspected.annotations.iter().map(|(key, value)| key.len() + value.len() + ENTRY_BYTES);
    let descriptor = inspected.subject.map_or(0, |_| 2 * annotations.sum::<usize>());
    manifest.bytes.len() + ENTRY_BYTES * (4 + inspected.children.len()) + descriptor
}

fn schema_1(registry: &Registry, scope: &Scope) -> PullError {
    tracing::warn!(authority = registry.name(), repository = %scope.repository,
        "upstream has only a schema 1 manifest, which cannot be verified: answered as missing");
    registry.not_found(false)
}
