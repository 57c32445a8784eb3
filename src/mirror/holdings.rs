//! What is held of one repository, for operators: looking counts as no use, and asks nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Mirror;
use super::freshness::{Check, Freshness};
use super::negative_cache::Asked;
use super::policy::{MAX_CONFIG_BYTES, Ttl};
use super::registries::Registry;
use super::resolve::{NamespaceError, scope_of};
use crate::cache::Manifest;
use crate::cache::blocks::Blocked;
use crate::clock::Timestamp;
use crate::index::{Change, HeldDigest, IndexError, Scope, StampTag, TagRow, held_digests};
use crate::oci::{Authority, Digest, Reference, Repository, Tag};
use crate::store::Verified;

/// One repository of a registry that is configured or admitted.
#[derive(Clone)]
pub struct Holdings {
    mirror: Arc<Mirror>,
    registry: Arc<Registry>,
    scope: Scope,
}

/// Whether a tag would be answered without asking upstream, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TagState {
    Fresh,
    /// It is served, and upstream is not asked for now.
    Stale,
    /// The next pull asks upstream first.
    Due,
    /// Upstream said that it is gone.
    Gone,
    /// An operator has said where it points.
    Pinned,
    /// An operator has made it another name of a tag elsewhere.
    Alias,
}

impl Holdings {
    /// An alias of a registry stands for it.
    ///
    /// # Errors
    ///
    /// No upstream has that name.
    pub fn of(mirror: &Arc<Mirror>, authority: &Authority, repository: &Repository) -> Result<Self, NamespaceError> {
        let unknown = || NamespaceError::Unknown(authority.to_string());
        let authority = mirror.registries.namespaces().known(authority).ok_or_else(unknown)?;
        let registry = mirror.registries.get(&authority).ok_or_else(unknown)?;
        let scope = scope_of(&authority, repository);
        Ok(Self { mirror: Arc::clone(mirror), registry, scope })
    }

    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether one grant opens a digest to the whole registry.
    pub fn whole_authority(&self) -> bool {
        self.registry.policy.public
    }

    /// Whether the configuration lets clients pull from this repository.
    pub fn is_allowed(&self) -> bool {
        self.registry.policy.allows(&self.scope.repository)
    }

    /// Why nobody is given this manifest, or this tag, if it is blocked.
    pub fn blocked(&self, tag: Option<&Tag>, digest: Digest) -> Option<Arc<Blocked>> {
        let blocks = &self.mirror.cache.blocks;
        tag.and_then(|tag| blocks.of_tag(&self.scope, tag)).or_else(|| blocks.of_digest(&self.scope, digest))
    }

    pub async fn tag(&self, tag: &Tag) -> Result<Option<TagRow>, IndexError> {
        let found = self.mirror.cache.index.tag(&self.scope, tag, self.whole_authority()).await?;
        Ok(found.map(|found| found.row))
    }

    /// Somebody says that the tag has moved: the next pull checks it, as if it had been checked a `tag_ttl` ago. `false` if
    /// no check would follow, because nobody has pulled it, an operator has said where it points, or it never changes.
    pub async fn check_soon(&self, tag: &Tag) -> Result<bool, IndexError> {
        self.mirror.negative_cache.forget(&self.scope, Asked::Manifest(Reference::Tag(tag.clone())));
        let Ttl::For(ttl) = self.registry.policy.ttl(&self.scope.repository, tag) else { return Ok(false) };
        // A check that runs may have asked before the tag moved.
        let running = self.mirror.tag_checks.ended(&(self.scope.clone(), tag.clone()));
        let is_held = self.drop_stamp(tag, ttl).await?;
        let Some(ended) = running else { return Ok(is_held) };
        let (again, tag) = (self.clone(), tag.clone());
        self.mirror.cache.context.tasks.spawn(async move {
            ended.await;
            // The writer has logged a failure.
            let _lost = again.drop_stamp(&tag, ttl).await;
        });
        Ok(true)
    }

    async fn drop_stamp(&self, tag: &Tag, ttl: Duration) -> Result<bool, IndexError> {
        let Some(row) = self.tag(tag).await?.filter(|row| !row.is_pinned && row.alias.is_none()) else {
            return Ok(false);
        };
        let checked = row.checked.min(self.now().before(ttl));
        let (scope, tag, hold_until) = (self.scope.clone(), tag.clone(), Timestamp::default());
        let stamp = Change::from(StampTag { scope, tag, checked, hold_until });
        self.mirror.cache.index.apply(vec![stamp]).await.map(|_applied| true)
    }

    pub fn state(&self, tag: &Tag, row: &TagRow) -> TagState {
        if row.alias.is_some() {
            return TagState::Alias;
        }
        if row.is_pinned {
            return TagState::Pinned;
        }
        if row.digest.is_none() {
            return TagState::Gone;
        }
        let policy = &self.registry.policy;
        let check = Check { checked: row.checked, hold_until: row.hold_until };
        match Freshness::of(check, policy.ttl(&self.scope.repository, tag), policy, self.now()) {
            Freshness::Fresh => TagState::Fresh,
            Freshness::Stale(_) => TagState::Stale,
            Freshness::Ask => TagState::Due,
        }
    }

    /// How old a tag is that is too old to be served while upstream cannot be asked; `None` if it is served.
    pub fn too_old(&self, tag: &Tag, row: &TagRow) -> Option<Duration> {
        let policy = &self.registry.policy;
        let age = self.now().since(row.checked);
        let is_served =
            row.is_pinned || policy.ttl(&self.scope.repository, tag) == Ttl::Immutable || policy.within_max_stale(age);
        (!is_served).then_some(age)
    }

    fn now(&self) -> Timestamp {
        self.mirror.cache.context.clock.now()
    }

    /// A manifest that this repository may give, if its bytes are right.
    pub async fn manifest(&self, digest: Digest) -> Result<Option<Manifest>, IndexError> {
        let facts = self.mirror.cache.index.manifest(&self.scope, digest, self.whole_authority()).await?;
        let Some(grant) = facts.grant.filter(|_| facts.blob.is_some()) else { return Ok(None) };
        let Some(media_type) = facts.media_type.or(grant.media_type) else { return Ok(None) };
        let limit = self.registry.client().settings().max_manifest_size;
        Ok(self.bytes(digest, limit).await.map(|bytes| Manifest { digest, media_type, bytes }))
    }

    /// The content of a config that is held.
    pub async fn config(&self, digest: Digest) -> Option<Bytes> {
        let held = self.held(vec![digest], false).await.ok()?;
        if held.first().is_some_and(HeldDigest::is_served) { self.bytes(digest, MAX_CONFIG_BYTES).await } else { None }
    }

    async fn bytes(&self, digest: Digest, limit: u64) -> Option<Bytes> {
        if let Some(bytes) = self.mirror.cache.memory.content(digest).filter(|bytes| bytes.len() as u64 <= limit) {
            return Some(bytes);
        }
        match self.mirror.cache.store.read_verified(digest, limit).await {
            Ok(Verified::Right(bytes)) => Some(bytes),
            Ok(Verified::Wrong(_) | Verified::TooLarge | Verified::Missing) | Err(_) => None,
        }
    }

    /// Which of these are stored, and may be read here.
    pub async fn held(&self, digests: Vec<Digest>, are_manifests: bool) -> Result<Vec<HeldDigest>, IndexError> {
        held_digests(&self.mirror.cache.index, &self.scope, digests, are_manifests, self.whole_authority()).await
    }
}
