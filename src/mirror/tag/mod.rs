//! A manifest by its tag: fresh, or checked, or stale because it cannot be checked (docs/ARCHITECTURE.md, "Freshness and
//! staleness").

use std::sync::Arc;

use super::Mirror;
use super::answer::{ManifestAnswer, Outcome, Provenance};
use super::completion::{Pull, Reach, lacking};
use super::error::PullError;
use super::freshness::{Check, Freshness, deferral, is_young};
use super::negative_cache::Asked;
use super::policy::{OnDenied, Ttl};
use super::registries::Registry;
use crate::cache::Manifest;
use crate::clock::Timestamp;
use crate::coalesce::{Coalesce, Role};
use crate::index::{Change, PutTag, Scope, TagRow};
use crate::metrics::ByResult;
use crate::oci::{Digest, Reference, Tag};
use crate::upstream::{Deadline, Failure, FetchedManifest};

mod checked;
mod min_age;

pub(super) use checked::{Belief, Checked};
use checked::{Copy, Known, MOMENT};
use min_age::Found;

/// Checks of tags, one for each scope and tag.
pub(super) type TagChecks = Coalesce<(Scope, Tag), Result<Checked, PullError>>;

impl Mirror {
    pub(super) async fn manifest_by_tag(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        belief: Belief,
    ) -> Result<ManifestAnswer, PullError> {
        match self.without_asking(registry, scope, tag, belief).await? {
            Known::Answer(answer) => return Ok(answer.seen_by(Role::Led, self.cache.context.clock.now())),
            Known::Pinned(digest) => {
                let answer = self.manifest_by_digest(registry, scope, digest).await?;
                return Ok(ManifestAnswer { provenance: Provenance::of(Outcome::Pinned), ..answer });
            }
            Known::Alias(target) => return self.manifest_by_alias(&target, belief).await,
            Known::Ask(_) => {}
        }
        let check = || {
            let (mirror, registry) = (Arc::clone(self), Arc::clone(registry));
            let (scope, tag) = (scope.clone(), tag.clone());
            Pull::carry(async move { mirror.check(&registry, &scope, &tag, belief).await })
        };
        let (checked, role) = self.tag_checks.run((scope.clone(), tag.clone()), check).await?;
        Ok(checked?.seen_by(role, self.cache.context.clock.now()))
    }

    /// Answers from what is known here, if upstream need not, or must not, be asked.
    async fn without_asking(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        belief: Belief,
    ) -> Result<Known, PullError> {
        let row = self.tag_row(registry, scope, tag).await;
        if let Some(digest) = row.as_ref().filter(|row| row.is_pinned).and_then(|row| row.digest) {
            return Ok(Known::Pinned(digest));
        }
        if let Some(target) = row.as_ref().and_then(|row| row.alias.clone()) {
            return Ok(Known::Alias(target));
        }
        let copy = self.held_copy(registry, scope, row.clone()).await?;
        let now = self.cache.context.clock.now();
        if let Some(copy) = &copy {
            let TagRow { checked, hold_until, ref waiting, .. } = *copy.row;
            let ttl = registry.policy.ttl(&scope.repository, tag);
            if belief.asks_anyway() && !registry.policy.offline {
                return Ok(Known::Ask(Some(copy.clone())));
            }
            let (outcome, stale_because) =
                match Freshness::of(Check { checked, hold_until }, ttl, &registry.policy, now) {
                    Freshness::Fresh
                        if belief == Belief::AMoment
                            && !registry.policy.offline
                            && ttl != Ttl::Immutable
                            && !is_young(checked, MOMENT, now) =>
                    {
                        return Ok(Known::Ask(Some(copy.clone())));
                    }
                    Freshness::Fresh if waiting.is_some() => (Outcome::HeldBack, None),
                    Freshness::Fresh => (Outcome::Hit, None),
                    Freshness::Stale(because) => {
                        self.refuse_incomplete(registry, scope, &copy.manifest).await?;
                        (Outcome::Stale, Some(because))
                    }
                    Freshness::Ask if registry.policy.offline => return Err(registry.not_found(true)),
                    Freshness::Ask => return Ok(Known::Ask(Some(copy.clone()))),
                };
            let manifest = copy.manifest.clone();
            let held_back = waiting.as_ref().map(ToString::to_string);
            return Ok(Known::Answer(Checked { manifest, outcome, at: checked, stale_because, held_back }));
        }
        let negative_ttl = registry.policy.negative_ttl;
        let is_tombstone = row.is_some_and(|row| row.digest.is_none() && is_young(row.checked, negative_ttl, now));
        let asked = Asked::Manifest(Reference::Tag(tag.clone()));
        if belief.asks_anyway() && !registry.policy.offline {
            return Ok(Known::Ask(None));
        }
        if registry.policy.offline || is_tombstone || self.negative_cache.is_missing(scope, asked.clone()) {
            return Err(registry.not_found(true));
        }
        if let Some(denial) = self.negative_cache.denial(scope, asked) {
            return Err(denial);
        }
        Ok(Known::Ask(None))
    }

    pub(super) async fn tag_row(&self, registry: &Registry, scope: &Scope, tag: &Tag) -> Option<Arc<TagRow>> {
        if let Some(row) = self.cache.memory.tag(&self.cache.index, scope, tag) {
            return Some(row);
        }
        let generation = self.cache.index.generation_of_tag(scope, tag);
        match self.cache.index.tag(scope, tag, registry.policy.public).await {
            Ok(held) => {
                let row = Arc::new(held?.row);
                self.cache.memory.keep_tag(scope, tag, Arc::clone(&row), generation);
                Some(row)
            }
            Err(err) => {
                tracing::warn!(error = %err, %tag, "upstream is asked instead");
                None
            }
        }
    }

    async fn held_copy(
        self: &Arc<Self>,
        registry: &Registry,
        scope: &Scope,
        row: Option<Arc<TagRow>>,
    ) -> Result<Option<Copy>, PullError> {
        let Some((row, digest)) = row.and_then(|row| Some((Arc::clone(&row), row.digest?))) else { return Ok(None) };
        let manifest = self.granted_manifest(registry, scope, digest).await?;
        Ok(manifest.map(|manifest| Copy { row, manifest }))
    }

    /// Asks upstream what the tag points to, records it, and says what to serve.
    async fn check(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        belief: Belief,
    ) -> Result<Checked, PullError> {
        // Another check may have ended between this request's look and its turn.
        let copy = match self.without_asking(registry, scope, tag, belief).await? {
            Known::Answer(answer) => return Ok(answer),
            Known::Ask(copy) => copy,
            // It has become one in this moment: the next request follows it.
            Known::Alias(_) => return Err(registry.not_found(true)),
            Known::Pinned(digest) => {
                let deadline = registry.client().answer_deadline();
                let manifest = match self.granted_manifest(registry, scope, digest).await? {
                    Some(held) => held,
                    None => self.obtain(registry, scope, digest, deadline).await?.0,
                };
                let at = self.cache.context.clock.now();
                return Ok(Checked { manifest, outcome: Outcome::Pinned, at, stale_because: None, held_back: None });
            }
        };
        let found = self.ask_for_tag(registry, scope, tag, copy.as_ref()).await;
        let counted = |result| {
            if copy.is_some() {
                let labels = ByResult { authority: registry.name().to_owned(), result };
                self.cache.context.metrics.revalidations.get_or_create(&labels).inc();
            }
        };
        match found {
            Ok((manifest, outcome)) => {
                let is_same = copy.as_ref().is_some_and(|copy| copy.manifest.digest == manifest.digest);
                let now = self.cache.context.clock.now();
                // The history outlives a copy that was evicted and a tag that was gone for a while.
                let before = self.tag_row(registry, scope, tag).await.map(Arc::unwrap_or_clone);
                let found = Found { digest: manifest.digest, now, takes_young: belief == Belief::NotAndTake };
                let metrics = &self.cache.context.metrics;
                let Some(older) = min_age::older(registry, metrics, (scope, tag), before.as_ref(), &found) else {
                    counted(if is_same { "unchanged" } else { "changed" });
                    self.put_tag(scope, tag, TagRow::moved_to(before, manifest.digest, now)).await;
                    return Ok(Checked { manifest, outcome, at: now, stale_because: None, held_back: None });
                };
                counted("unchanged");
                let held_back = older.row.waiting.as_ref().map(ToString::to_string);
                self.put_tag(scope, tag, older.row).await;
                let manifest = match copy {
                    Some(copy) if copy.manifest.digest == older.digest => copy.manifest,
                    // It was evicted. If upstream does not have it any more either, nothing is given.
                    _ => self.obtain(registry, scope, older.digest, registry.client().answer_deadline()).await?.0,
                };
                Ok(Checked { manifest, outcome: Outcome::HeldBack, at: now, stale_because: None, held_back })
            }
            Err(error) => {
                counted("failed");
                self.without_an_answer(registry, scope, tag, copy, error).await
            }
        }
    }

    /// HEAD, which Docker Hub does not count, then GET of what it named; GET by tag where HEAD says no or nothing, and
    /// where nothing is held that HEAD could spare: this tag's manifest, or, if the upstream counts what is fetched, any of
    /// the repository.
    async fn ask_for_tag(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        copy: Option<&Copy>,
    ) -> Result<(Manifest, Outcome), PullError> {
        // One deadline for all that has to be asked, so that nobody waits two or three times as long.
        let (upstream, deadline) = match copy {
            Some(_) => (&registry.client().asking_once(), Deadline::now() + registry.policy.check_timeout),
            None => (registry.client(), registry.client().answer_deadline()),
        };
        let by_tag = Reference::Tag(tag.clone());
        let could_spare = match copy {
            Some(_) => true,
            None => upstream.counts_pulls() && self.cache.index.knows_manifests_of(scope).await.unwrap_or(true),
        };
        if !could_spare {
            let fetched = upstream.get_manifest(&scope.repository, &by_tag, deadline).await?;
            return self.keep_or_grant(registry, scope, &fetched).await;
        }
        let head = upstream.head_manifest(&scope.repository, &by_tag, deadline).await;
        let is_refused = match head {
            Ok(head) => {
                if let Some(digest) = head.digest {
                    if let Some(copy) = copy.filter(|copy| copy.manifest.digest == digest) {
                        return Ok((copy.manifest.clone(), Outcome::Revalidated));
                    }
                    match self.obtain_named(registry, scope, digest, deadline).await {
                        Err(error) if error.is_not_found() => {}
                        answer => return answer,
                    }
                }
                false
            }
            Err(error) if error.failure.leaves_it_to_get() => !matches!(error.failure, Failure::ServerError(_)),
            Err(error) => return Err(error.into()),
        };
        let fetched = upstream.get_manifest(&scope.repository, &by_tag, deadline).await?;
        if is_refused {
            upstream.remember_head_is_refused(fetched.endpoint);
        }
        match copy {
            Some(copy) if copy.manifest.digest == Self::digest_of(&fetched) => {
                Ok((copy.manifest.clone(), Outcome::Revalidated))
            }
            _ => self.keep_or_grant(registry, scope, &fetched).await,
        }
    }

    /// Keeps what a GET by tag brought. Bytes that are held already need only a grant.
    async fn keep_or_grant(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        fetched: &FetchedManifest,
    ) -> Result<(Manifest, Outcome), PullError> {
        let digest = Self::digest_of(fetched);
        if let Some(held) = self.held_in_authority(registry, scope, digest).await? {
            self.grants.grant_manifest(registry, scope, &held).await;
            return Ok((held, Outcome::Revalidated));
        }
        Ok((self.keep_manifest(registry, scope, digest, fetched).await?, Outcome::Fill))
    }

    /// The manifest that a HEAD of a tag has named. The HEAD is also the proof that this scope serves it.
    async fn obtain_named(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        digest: Digest,
        deadline: Deadline,
    ) -> Result<(Manifest, Outcome), PullError> {
        if let Some(held) = self.held_in_authority(registry, scope, digest).await? {
            self.grants.grant_manifest(registry, scope, &held).await;
            return Ok((held, Outcome::Revalidated));
        }
        self.obtain(registry, scope, digest, deadline).await
    }

    /// Upstream did not say what the tag points to: what is held may be served, by cause.
    async fn without_an_answer(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        copy: Option<Copy>,
        error: PullError,
    ) -> Result<Checked, PullError> {
        let now = self.cache.context.clock.now();
        if error.is_denied() && registry.policy.on_denied == OnDenied::Refuse {
            let named = self.tag_row(registry, scope, tag).await.and_then(|row| row.digest);
            self.grants.revoke(registry, scope, named).await;
        }
        let copy = copy.filter(|copy| registry.serves_despite(&error, now.since(copy.row.checked)));
        let lacks = match &copy {
            // Upstream may still have the blobs of a deleted tag.
            Some(copy) if !error.is_not_found() => self.lacks(registry, scope, &copy.manifest, &error).await,
            Some(_) | None => None,
        };
        let is_lacking = lacks.is_some();
        let error = match lacks {
            Some(lacks) if error.could_not_be_asked() => error.of_incomplete(lacks),
            Some(_) | None => error,
        };
        let Some(copy) = copy.filter(|_| !is_lacking) else {
            let asked = Asked::Manifest(Reference::Tag(tag.clone()));
            if error.is_not_found() {
                if let Some(row) = self.tag_row(registry, scope, tag).await {
                    let gone = TagRow {
                        digest: None,
                        checked: now,
                        hold_until: Timestamp::default(),
                        waiting: None,
                        ..Arc::unwrap_or_clone(row)
                    };
                    self.put_tag(scope, tag, gone).await;
                }
                self.negative_cache.remember(scope, asked, registry.policy.negative_ttl);
            } else {
                self.negative_cache.remember_denial(scope, asked, &error, registry.policy.negative_ttl);
            }
            return Err(error);
        };
        let hold = deferral(registry.policy.ttl(&scope.repository, tag), &error);
        self.put_tag(scope, tag, TagRow { hold_until: now.plus(hold), ..TagRow::clone(&copy.row) }).await;
        tracing::warn!(authority = registry.name(), repository = %scope.repository, %tag, %error,
            "a tag could not be checked; the copy held is served");
        Ok(Checked {
            manifest: copy.manifest,
            outcome: Outcome::Stale,
            at: copy.row.checked,
            stale_because: Some(error.to_string()),
            held_back: copy.row.waiting.as_ref().map(ToString::to_string),
        })
    }

    /// What keeps a client from going on with the copy after a check has failed: it would only fail later, and at a client
    /// that then asks nobody else.
    async fn lacks(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        manifest: &Manifest,
        error: &PullError,
    ) -> Option<String> {
        let blobs = error.is_rationed() && !registry.client().is_blobs_tripped();
        lacking(self, registry, scope, manifest, Reach { manifests: false, blobs }).await
    }

    async fn put_tag(&self, scope: &Scope, tag: &Tag, row: TagRow) {
        let pinned = row.digest.and_then(|digest| self.cache.pins.mark(scope, Some(tag.as_str()), digest));
        let put = Change::from(PutTag { scope: scope.clone(), tag: tag.clone(), row });
        // The writer has logged a failure; the tag is checked again next time.
        let _lost = self.cache.index.apply(std::iter::once(put).chain(pinned).collect()).await;
    }
}
