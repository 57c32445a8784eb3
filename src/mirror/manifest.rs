//! A manifest by its digest: held and granted, or fetched, compared and kept.

use std::sync::Arc;

use bytes::Bytes;

use crate::index::{BlobRow, Change, ReferrerRow, Scope};
use crate::oci::{Algorithm, Digest, Inspected, MediaType, NotAManifest, Reference, Shape};
use crate::store::{CommitError, Verified};
use crate::upstream::{Deadline, Failure, FetchedManifest};

use crate::mirror::answer::{ManifestAnswer, Outcome, Provenance, PullError};
use crate::mirror::fill::task::disk_failure;
use crate::mirror::negative_cache::Asked;
use crate::mirror::policy::OnDenied;
use crate::mirror::{Mirror, Registry};

/// A manifest whose bytes were compared with its digest.
#[derive(Debug, Clone)]
pub(in crate::mirror) struct Manifest {
    pub(in crate::mirror) digest: Digest,
    pub(in crate::mirror) media_type: MediaType,
    pub(in crate::mirror) bytes: Bytes,
}

impl Manifest {
    pub(in crate::mirror) fn answer(self, provenance: Provenance) -> ManifestAnswer {
        ManifestAnswer { digest: self.digest, media_type: self.media_type, bytes: self.bytes, provenance }
    }

    /// Only an image manifest needs its blobs to be of use.
    pub(in crate::mirror) fn shape(&self) -> Shape {
        Inspected::read(&self.bytes, Some(&self.media_type)).map_or(Shape::Other, |inspected| inspected.shape)
    }
}

impl Mirror {
    pub(in crate::mirror) async fn manifest_by_digest(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
    ) -> Result<ManifestAnswer, PullError> {
        if let Some(held) = self.granted_manifest(registry, scope, digest).await {
            return Ok(held.answer(Provenance::of(Outcome::Hit)));
        }
        let asked = Asked::Manifest(Reference::Digest(digest));
        if registry.policy.offline || self.is_known_missing(scope, asked.clone()) {
            return Err(registry.not_found(true));
        }
        let fetch = || {
            let (mirror, registry, scope) = (Arc::clone(self), Arc::clone(registry), scope.clone());
            async move {
                // Another fetch may have ended between this request's look and its turn.
                if let Some(held) = mirror.granted_manifest(&registry, &scope, digest).await {
                    return Ok((held, Outcome::Hit));
                }
                let deadline = registry.client.patience();
                let fetched = mirror.obtain(&registry, &scope, digest, deadline).await;
                match &fetched {
                    Err(error) if error.is_not_found() => {
                        mirror.remember_missing(&registry, &scope, Asked::Manifest(Reference::Digest(digest)));
                    }
                    Err(error) if error.is_denied() && registry.policy.on_denied == OnDenied::Refuse => {
                        mirror.revoke(&registry, &scope, Some(digest)).await;
                    }
                    _ => {}
                }
                fetched
            }
        };
        let key = (scope.clone(), Reference::Digest(digest));
        let (fetched, role) = self.manifests.run(key, fetch).await?;
        let (manifest, outcome) = fetched?;
        Ok(manifest.answer(Provenance::of(outcome.seen_by(role))))
    }

    /// The manifest, if this scope may read it and its bytes are here.
    pub(in crate::mirror) async fn granted_manifest(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Option<Manifest> {
        if let Some(manifest) = self.manifest_in_memory(registry, scope, digest) {
            return Some(manifest);
        }
        let generation = self.index.generation_of_digest(scope, digest);
        let held = match self.index.manifest(scope, digest, registry.policy.public).await {
            Ok(held) => held,
            Err(err) => {
                tracing::warn!(%err, %digest, "upstream is asked instead");
                return None;
            }
        };
        let grant = self.unless_unused(registry, digest, held.grant).await?;
        let media_type = held.media_type.or_else(|| grant.media_type.clone())?;
        let bytes = self.manifest_bytes(registry, digest).await?;
        self.touch(registry, scope, digest, &grant);
        let manifest = Manifest { digest, media_type, bytes };
        if registry.policy.public && grant.may_add(&scope.repository) {
            // Pins go by repository, also where grants do not.
            self.grant_manifest(registry, scope, &manifest).await;
            return Some(manifest);
        }
        self.memory.keep_manifest(scope, &manifest, grant, generation);
        Some(manifest)
    }

    /// From memory, else from disk. What is damaged there goes into quarantine, and is fetched again.
    async fn manifest_bytes(&self, registry: &Registry, digest: Digest) -> Option<Bytes> {
        if let Some(bytes) = self.memory.content(digest).filter(|bytes| registry.takes_manifest_of(bytes.len())) {
            return Some(bytes);
        }
        let limit = registry.client.settings().max_manifest_size;
        match self.store.read_verified(digest, limit).await {
            Ok(Verified::Right(bytes)) => {
                self.memory.keep_content(digest, bytes.clone());
                Some(bytes)
            }
            Ok(Verified::Wrong(file_id)) => {
                self.take_out(digest, file_id).await;
                None
            }
            Ok(Verified::TooLarge) => None,
            Ok(Verified::Missing) => {
                self.forget_missing(digest, limit).await;
                None
            }
            Err(err) => {
                tracing::warn!(%digest, %err, "a stored manifest cannot be read; it is fetched again");
                None
            }
        }
    }

    /// A row that was read before its file was found missing is of that file; one that is written since stays.
    async fn forget_missing(&self, digest: Digest, limit: u64) {
        let Ok(Some(row)) = self.index.blob_row(digest).await else { return };
        if matches!(self.store.read_verified(digest, limit).await, Ok(Verified::Missing)) {
            let _lost = self.index.apply(vec![Change::RemoveMissing { digest, row }]).await;
            // A file that is missing was counted.
            self.reconcile().await;
        }
    }

    /// Asks upstream for a manifest that this scope has no use of yet: HEAD where the bytes and their type are held from
    /// this authority, GET otherwise.
    pub(in crate::mirror) async fn obtain(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        deadline: Deadline,
    ) -> Result<(Manifest, Outcome), PullError> {
        let reference = Reference::Digest(digest);
        let upstream = &registry.client;
        if let Some(held) = self.held_in_authority(registry, scope, digest).await {
            match upstream.head_manifest(&scope.repository, &reference, deadline).await {
                // A front door says yes to everything with a page of its own: only who names the digest has it.
                Ok(head) if head.digest == Some(digest) => {
                    self.grant_manifest(registry, scope, &held).await;
                    return Ok((held, Outcome::Revalidated));
                }
                Ok(_) => {}
                Err(error) if error.failure == Failure::HeadRefused => {}
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
            upstream.distrust(fetched.endpoint, digest);
            return Err(upstream.error_at(fetched.endpoint, Failure::BadDigest).into());
        }
        let manifest = self.keep_manifest(registry, scope, digest, &fetched).await?;
        Ok((manifest, Outcome::Fill))
    }

    /// The manifest, if another scope of this authority was served it and its bytes are here.
    pub(in crate::mirror) async fn held_in_authority(
        &self,
        registry: &Registry,
        scope: &Scope,
        digest: Digest,
    ) -> Option<Manifest> {
        let held = self.index.manifest(scope, digest, registry.policy.public).await.ok()?;
        let media_type = held.media_type?;
        let bytes = self.manifest_bytes(registry, digest).await?;
        Some(Manifest { digest, media_type, bytes })
    }

    pub(in crate::mirror) async fn grant_manifest(&self, registry: &Registry, scope: &Scope, manifest: &Manifest) {
        let now = self.clock.now();
        let grant = Change::GrantManifest {
            scope: scope.clone(),
            whole_authority: registry.policy.public,
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            day: now.day(),
        };
        // The writer has logged a failure; the grant is asked for again next time.
        let pinned = self.eviction.pins.mark(scope, None, manifest.digest);
        self.record_access(manifest.digest, now);
        let _lost = self.index.apply(std::iter::once(grant).chain(pinned).collect()).await;
    }

    /// The digest that a body fetched by tag has: in the algorithm that upstream files it under, if that fits.
    pub(in crate::mirror) fn digest_of(fetched: &FetchedManifest) -> Digest {
        match fetched.claimed {
            Some(claimed) if Digest::of(claimed.algorithm(), &fetched.bytes) == claimed => claimed,
            _ => Digest::of(Algorithm::Sha256, &fetched.bytes),
        }
    }

    /// Records a fetched manifest under the digest its bytes have. The answer does not wait for the disk.
    pub(in crate::mirror) async fn keep_manifest(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        fetched: &FetchedManifest,
    ) -> Result<Manifest, PullError> {
        let upstream = &registry.client;
        let inspected =
            Inspected::read(&fetched.bytes, fetched.content_type.as_ref()).map_err(|problem| match problem {
                NotAManifest::Schema1 => schema_1(registry, scope),
                NotAManifest::NotJson | NotAManifest::Ambiguous | NotAManifest::Untyped => {
                    let why = format!("what it sent is no manifest: {problem}");
                    upstream.error_at(fetched.endpoint, Failure::Refused(why)).into()
                }
            })?;
        // The type at the first verified fetch stands for this authority.
        let known =
            self.index.manifest(scope, digest, registry.policy.public).await.ok().and_then(|held| held.media_type);
        let media_type = known.unwrap_or_else(|| inspected.media_type.clone());
        let manifest = Manifest { digest, media_type, bytes: fetched.bytes.clone() };
        self.memory.keep_content(digest, manifest.bytes.clone());
        self.grant_manifest(registry, scope, &manifest).await;
        let facts = self.facts_about(scope, &manifest, &inspected);
        let (mirror, registry) = (Arc::clone(self), Arc::clone(registry));
        let bytes = manifest.bytes.clone();
        self.tasks.spawn(async move { mirror.store_manifest(&registry, digest, bytes, facts).await });
        Ok(manifest)
    }

    fn facts_about(&self, scope: &Scope, manifest: &Manifest, inspected: &Inspected) -> Vec<Change> {
        let digest = manifest.digest;
        let size_bytes = manifest.bytes.len() as u64;
        let stored = self.monotonic(self.clock.now());
        let row = BlobRow { size_bytes, origin: Some(scope.authority.clone()), stored };
        let children = inspected.children.iter().map(|child| child.digest).collect();
        let mut facts = vec![Change::PutBlob { digest, row }, Change::PutChildren { manifest: digest, children }];
        facts.extend(inspected.subject.map(|subject| {
            let descriptor = serde_json::json!({
                "mediaType": manifest.media_type,
                "digest": digest,
                "size": size_bytes,
                "artifactType": inspected.artifact_type,
                "annotations": inspected.annotations,
            });
            Change::PutReferrer { scope: scope.clone(), subject, referrer: digest, row: ReferrerRow { descriptor } }
        }));
        facts
    }

    pub(in crate::mirror) async fn store_manifest(
        self: Arc<Self>,
        registry: &Arc<Registry>,
        digest: Digest,
        bytes: Bytes,
        facts: Vec<Change>,
    ) {
        let size_bytes = bytes.len() as u64;
        let stored = match self.store.put(registry.client.authority(), digest, bytes.clone()).await {
            Err(CommitError::NoSpace(size_bytes)) if self.make_room_for_manifest(registry, size_bytes).await => {
                self.store.put(registry.client.authority(), digest, bytes).await
            }
            stored => stored,
        };
        match stored {
            Ok(committed) => {
                // What was there already is counted unless the index did not know it, as after a power cut.
                let replaced = committed.as_ref().map_or(size_bytes, |committed| committed.replaced_bytes);
                if replaced > 0 && matches!(self.index.blob_row(digest).await, Ok(None)) {
                    self.store.count_found(replaced);
                }
                let applied = self.index.apply(facts.clone()).await;
                match (committed, applied) {
                    (Some(mut committed), Ok(())) => {
                        committed.recorded();
                        self.show_stored();
                        self.forget_partial_when_durable(digest, facts, committed).await;
                    }
                    (Some(committed), Err(_)) => self.record_later(digest, facts, committed),
                    // What was there without a row may have been counted already.
                    (None, _) => self.pending.doubt(),
                }
            }
            Err(err) => {
                tracing::warn!(%digest, %err, "a manifest could not be stored; it is kept in memory for now");
                if let CommitError::Io(err) = err {
                    self.store_later(registry, digest, facts);
                    self.disk_failed(&disk_failure(&err), size_bytes);
                }
            }
        }
    }

    fn blame(&self, registry: &Registry, scope: &Scope, reference: &Reference, endpoint: usize) {
        let labels = crate::metrics::ByAuthority::of(registry.name());
        self.metrics.digest_mismatches.get_or_create(&labels).inc();
        let error = registry.client.error_at(endpoint, Failure::BadDigest);
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %reference, endpoint = %error.endpoint,
            "upstream sent a manifest that is not the one asked for; nothing of it was kept");
    }
}

fn schema_1(registry: &Registry, scope: &Scope) -> PullError {
    tracing::warn!(authority = registry.name(), repository = %scope.repository,
        "upstream has only a schema 1 manifest, which cannot be verified: answered as missing");
    registry.not_found(false)
}
