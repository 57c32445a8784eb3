//! The decisions. A pull, on one page:
//!
//! 1. *Which registry?* [`Mirror::resolve`]: `ns`, `oci-ref-name`, Host, path prefix, default; a closed world.
//! 2. *May it be asked for?* [`Mirror::enter`]: `allow` and `deny`, before any lookup.
//! 3. *Is it held?* The memory tier answers first, then the index says what is recorded, and the store opens it.
//! 4. *May this scope read it?* A grant is the recorded fact that upstream served this digest in this scope. Without one,
//!    upstream is asked ([`grants`]).
//! 5. *Is it fresh?* A tag is believed for its `tag_ttl`, then checked once for all requests ([`tag`], [`freshness`]).
//!    Digests never age.
//! 6. *Join or start a fill.* One for each registry and digest, a task that no client owns ([`crate::fill`]).
//! 7. *Answer*: content and how it came about ([`answer`]). The server makes HTTP of it.
//!
//! [`Mirror::blob`] does 2, 3, 4, 6 and 7; the server has done 1. With upstream down, grants, stored bytes and stale
//! tags go on; what nobody holds fails fast.

mod answer;
mod blob;
mod completion;
mod error;
mod freshness;
mod grants;
mod holdings;
mod lists;
mod manifest;
mod negative_cache;
mod policy;
mod registries;
mod resolve;
mod tag;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use crate::fill::RunningFill;
pub use answer::{BlobAnswer, ManifestAnswer, Outcome, Provenance, ReferrersAnswer, TagsAnswer};
pub use blob::Intent;
pub use completion::{CompletionTimes, ImagesReport, IncompleteImage};
pub use error::PullError;
pub use grants::UNUSED_DAYS;
pub use holdings::{Holdings, TagState};
pub use lists::TagsQuery;
pub use policy::{
    Complete, Completion, FreshnessRule, MinAge, MinAgeRule, OnDenied, Platforms, Policy, Ttl, WhenRationed,
};
pub use registries::{RegistryError, RegistryKey, RegistrySettings, UpstreamState};
pub use resolve::{Claims, DOCKER_HUB, NamespaceError, Namespaces, PinError, Target, Wildcard};

use crate::cache::blocks::Blocked;
use crate::cache::retention::{EvictionSettings, Evictor, Pins};
use crate::cache::{self, Cache};
use crate::fill::{FillLimits, Fills};
use crate::index::{AliasTarget, Index, Scope};
use crate::oci::{Authority, Digest, ImageName, PinPattern, Reference, Tag};
use crate::recent::Recent;
use crate::store::Store;
use crate::upstream::{self, Trouble};

use completion::{CompletionQueue, Looks};
use grants::Grants;
use lists::Lists;
use manifest::ManifestFetches;
use negative_cache::NegativeCache;
use registries::{Registries, Registry};
use tag::{Belief, TagChecks};

/// The whole mirror, shared by all requests.
pub struct Mirror {
    registries: Arc<Registries>,
    cache: Arc<Cache>,
    evictor: Arc<Evictor>,
    fills: Arc<Fills>,
    grants: Grants,
    manifest_fetches: ManifestFetches,
    tag_checks: TagChecks,
    lists: Lists,
    negative_cache: NegativeCache,
    completion: Arc<CompletionQueue>,
    looks: Looks,
}

/// The settings of the mirror, already checked.
pub struct MirrorSettings {
    pub namespaces: Namespaces,
    pub registries: Vec<RegistrySettings>,
    pub eviction: EvictionSettings,
    pub fills: FillLimits,
    pub completion: CompletionTimes,
}

/// Content can have no place here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error(
        "no upstream of the configuration is {0}; give it one (`offline = true` is enough), or another name by `--as`"
    )]
    UnknownRegistry(Authority),
    #[error("the rules for {0} (`allow`, `deny`) refuse this repository")]
    RefusedByRule(Authority),
    #[error("{0}")]
    Blocked(Arc<Blocked>),
}

/// Where content belongs, and what the configuration says of it.
#[derive(Debug, Clone)]
pub struct Placement {
    pub target: Target,
    pub scope: Scope,
    /// One grant opens a digest to the whole registry.
    pub whole_authority: bool,
    pub max_manifest_bytes: u64,
}

impl Mirror {
    /// Connects to nothing: every upstream may be down.
    ///
    /// # Errors
    ///
    /// An upstream's client cannot be set up, as with a certificate that is none.
    pub fn new(
        settings: MirrorSettings,
        store: Store,
        index: Index,
        context: upstream::Context,
        stopping: CancellationToken,
    ) -> Result<Self, RegistryError> {
        let MirrorSettings { namespaces, registries, eviction, fills, completion } = settings;
        let pins = Pins::new(eviction.pins.clone(), context.clock.now());
        let cache_context = cache::Context {
            clock: context.clock.clone(),
            metrics: context.metrics.clone(),
            health: context.health.clone(),
            recent: Recent::new(context.clock.clone()),
            tasks: context.tasks.clone(),
            stopping,
        };
        let tasks = context.tasks.clone();
        let registries = Arc::new(Registries::new(namespaces, registries, context)?);
        let lookup: Arc<dyn cache::Registries> = Arc::<Registries>::clone(&registries);
        let cache = Arc::new(Cache::new(store, index, pins, lookup, cache_context));
        let evictor = Evictor::new(Arc::clone(&cache), eviction);
        let fills = Fills::new(Arc::clone(&cache), Arc::clone(&evictor), fills);
        let completion = CompletionQueue::new(completion);
        Ok(Self {
            registries,
            grants: Grants::new(&cache, &fills, &completion),
            manifest_fetches: ManifestFetches::new(tasks.clone()),
            tag_checks: TagChecks::new(tasks.clone()),
            looks: Looks::new(tasks.clone()),
            lists: Lists::new(tasks),
            negative_cache: NegativeCache::new(cache.context.clock.clone()),
            cache,
            evictor,
            fills,
            completion,
        })
    }

    /// All that is held.
    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub const fn evictor(&self) -> &Arc<Evictor> {
        &self.evictor
    }

    /// Upstreams that are in trouble, as far as requests have shown.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.registries.troubles()
    }

    /// The configured upstreams by name, each with its endpoints.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.registries.states()
    }

    /// The first downloads of those that run or wait, in the order in which they began, and how many there are.
    pub fn running_fills(&self, most: usize) -> (Vec<RunningFill>, usize) {
        self.fills.list(most)
    }

    /// Where a request leads. `default` is the listener's own registry.
    pub fn resolve(&self, claims: &Claims<'_>, default: &Authority) -> Result<Target, NamespaceError> {
        self.registries.namespaces().resolve(claims, default)
    }

    /// The `ns` to echo, whatever else the request says.
    pub fn admitted_ns(&self, claims: &Claims<'_>) -> Result<Option<Authority>, NamespaceError> {
        self.registries.namespaces().admitted_ns(claims)
    }

    /// Whether a registry's `/v2/` itself is here.
    pub fn ping(&self, claims: &Claims<'_>) -> Result<(), NamespaceError> {
        self.registries.namespaces().ping(claims)
    }

    /// Whether this is a name of a registry in the configuration; a wildcard names none.
    pub fn is_configured(&self, name: &Authority) -> bool {
        self.registries.namespaces().configured(name).is_some()
    }

    /// Reads a pin; its registry's own name stands in place of an alias.
    pub fn pin(&self, text: &str) -> Result<PinPattern, PinError> {
        self.registries.namespaces().pin(text)
    }

    /// The name under which a registry is counted: that of the configured upstream.
    pub fn label(&self, authority: &Authority) -> String {
        self.registries.get(authority).map_or_else(|| "unknown".to_owned(), |registry| registry.name().to_owned())
    }

    /// What clients are told while this registry limits pulls.
    pub fn when_rationed(&self, authority: &Authority) -> WhenRationed {
        self.registries.get(authority).map_or(WhenRationed::Wait, |registry| registry.policy.when_rationed)
    }

    /// Where the content of a name belongs, for jobs: aliases of registries are folded, and rules asked.
    pub fn place(&self, name: &ImageName) -> Result<Placement, NoPlace> {
        let authority = self.registries.namespaces().configured(&name.authority).unwrap_or(&name.authority).clone();
        let target = Target { authority, repository: name.repository.clone(), via: None };
        let (registry, scope) = self.enter(&target).map_err(|refused| match refused {
            PullError::RefusedByRule { authority } => NoPlace::RefusedByRule(authority),
            PullError::Blocked(blocked) => NoPlace::Blocked(blocked),
            PullError::NotFound { .. }
            | PullError::Upstream(_)
            | PullError::Incomplete { .. }
            | PullError::Busy
            | PullError::Crowded(_)
            | PullError::ShuttingDown
            | PullError::Internal(_) => NoPlace::UnknownRegistry(target.authority.clone()),
        })?;
        if let Some(blocked) = self.cache.blocks.of_repository(&scope) {
            return Err(NoPlace::Blocked(blocked));
        }
        Ok(Placement {
            target,
            scope,
            whole_authority: registry.policy.public,
            max_manifest_bytes: registry.client().settings().max_manifest_size,
        })
    }

    /// A manifest by tag or digest. HEAD asks the same. `no_cache` is asked only where the answer matters.
    pub async fn manifest(
        self: &Arc<Self>,
        target: &Target,
        reference: &Reference,
        no_cache: impl FnOnce() -> bool,
    ) -> Result<ManifestAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        match reference {
            Reference::Tag(tag) => {
                let believe =
                    if registry.policy.honour_no_cache && no_cache() { Belief::AMoment } else { Belief::Usual };
                self.unblocked_by_tag(&registry, &scope, tag, believe).await
            }
            Reference::Digest(digest) => {
                refuse_blocked(self.cache.blocks.of_digest(&scope, *digest))?;
                let answer = self.manifest_by_digest(&registry, &scope, *digest).await?;
                // It may have been blocked while upstream was asked.
                refuse_blocked(self.cache.blocks.of_digest(&scope, *digest))?;
                Ok(answer)
            }
        }
    }

    /// A manifest by its tag, unless one of the two is blocked. What a tag that is not blocked leads to is blocked only by its
    /// own digest.
    async fn unblocked_by_tag(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        scope: &Scope,
        tag: &Tag,
        belief: Belief,
    ) -> Result<ManifestAnswer, PullError> {
        let Cache { blocks, index, .. } = &*self.cache;
        refuse_blocked(blocks.of_tag(scope, tag))?;
        let answer = self.manifest_by_tag(registry, scope, tag, belief).await?;
        if let Some(blocked) = blocks.of_digest(scope, answer.digest) {
            refuse_blocked(Some(blocked).filter(|blocked| blocked.is_named))?;
            let used = index.reached(answer.digest).await.unwrap_or_else(|_not_read| vec![answer.digest]);
            // The index has logged a failure; it is in force all the same.
            let _logged = blocks.release(index, &used).await;
        }
        Ok(answer)
    }

    /// Ends the downloads of what was blocked. What is being sent ends by itself.
    pub fn end_blocked(&self) {
        self.fills.end_blocked();
    }

    /// Where else to look for what a repository does not have: where its aliases point. To be asked after a pull has failed.
    pub async fn alias_targets(&self, target: &Target) -> Vec<Target> {
        resolve::alias::targets(&self.cache.index, target).await
    }

    /// An alias of an alias is none.
    async fn manifest_by_alias(
        self: &Arc<Self>,
        alias: &AliasTarget,
        belief: Belief,
    ) -> Result<ManifestAnswer, PullError> {
        let target = Target { authority: alias.authority.clone(), repository: alias.repository.clone(), via: None };
        let (registry, scope) = self.enter(&target)?;
        if self.tag_row(&registry, &scope, &alias.tag).await.is_some_and(|row| row.alias.is_some()) {
            return Err(registry.not_found(true));
        }
        let answer = Box::pin(self.unblocked_by_tag(&registry, &scope, &alias.tag, belief)).await?;
        let provenance = Provenance { outcome: Outcome::Alias, ..answer.provenance };
        Ok(ManifestAnswer { provenance, ..answer })
    }

    /// Asks upstream where a tag points, whatever is known. A pinned tag points where it points. With `takes_young`, `min_age`
    /// does not hold it back.
    pub async fn refresh(
        self: &Arc<Self>,
        target: &Target,
        tag: &Tag,
        takes_young: bool,
    ) -> Result<ManifestAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        let belief = if takes_young { Belief::NotAndTake } else { Belief::Not };
        let answer = self.unblocked_by_tag(&registry, &scope, tag, belief).await?;
        if takes_young && answer.provenance.outcome == Outcome::HeldBack {
            // It has joined a check that began before.
            return self.unblocked_by_tag(&registry, &scope, tag, belief).await;
        }
        Ok(answer)
    }

    /// The tags of a repository, paged.
    pub async fn tags(self: &Arc<Self>, target: &Target, query: &TagsQuery) -> Result<TagsAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        refuse_blocked(self.cache.blocks.of_repository(&scope))?;
        lists::tags(self, &registry, &scope, query).await
    }

    /// The referrers of a digest: of these types, or all if none is named.
    pub async fn referrers(
        self: &Arc<Self>,
        target: &Target,
        subject: Digest,
        types: Vec<String>,
    ) -> Result<ReferrersAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        refuse_blocked(self.cache.blocks.of_digest(&scope, subject))?;
        lists::referrers(self, &registry, &scope, subject, types).await
    }

    /// Drops grants and lists that were not used for [`UNUSED_DAYS`], some time after the start and once a day, until the
    /// mirror stops.
    pub async fn run_grant_expiry(self: Arc<Self>) {
        self.grants.run_expiry(&self.registries).await;
    }

    /// Proves and fetches ahead of need, until the mirror stops.
    pub async fn run_completion(self: Arc<Self>) {
        completion::run(self).await;
    }

    /// Counts the images that are held whole, until the mirror stops.
    pub async fn run_census(self: Arc<Self>) {
        completion::run_census(self).await;
    }

    /// The images that are held whole and those that are not, as last counted; `None` soon after the start.
    pub fn images(&self) -> Option<ImagesReport> {
        self.completion.report()
    }

    /// One round of [`Self::run_grant_expiry`].
    pub async fn expire_grants(&self) {
        self.grants.expire(&self.registries).await;
    }

    /// The rules, before any lookup: a refused repository is refused cold and warm alike.
    fn enter(&self, target: &Target) -> Result<(Arc<Registry>, Scope), PullError> {
        let authority = &target.authority;
        let registry = self.registries.get(authority).ok_or_else(|| PullError::NotFound {
            authority: authority.clone(),
            remembered: true,
            offline: false,
        })?;
        if !registry.policy.allows(&target.repository) {
            return Err(PullError::RefusedByRule { authority: authority.clone() });
        }
        let registry = match &target.via {
            None => registry,
            Some(hops) => registry.on_behalf_of(hops),
        };
        Ok((registry, resolve::scope_of(authority, &target.repository)))
    }
}

fn refuse_blocked(blocked: Option<Arc<Blocked>>) -> Result<(), PullError> {
    blocked.map_or(Ok(()), |blocked| Err(PullError::Blocked(blocked)))
}
