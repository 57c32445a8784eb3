//! The decisions. A pull, on one page:
//!
//! 1. *Which authority?* [`Mirror::resolve`]: `ns`, `oci-ref-name`, Host, path prefix, default; a closed world.
//! 2. *May I?* [`Mirror::enter`]: `allow` and `deny`, before any lookup. Then the grant: the recorded fact that upstream
//!    served this digest in this scope. Without one, upstream is asked ([`grants`]).
//! 3. *Do I have it?* The index says what is stored, the store opens it.
//! 4. *Is it fresh?* A tag is believed for its `tag_ttl`, then checked once for all who ask ([`tags`]); digests never age.
//! 5. *Join or start a fill.* One per authority and digest ([`flight`]), led by a task that no client owns ([`lead`],
//!    [`download`]).
//! 6. *Answer*: content and how it came about ([`outcome`]). The server makes HTTP of it.
//!
//! What is asked for often is answered from memory ([`memory`]); any other hit touches the index and one file. A miss asks upstream, and every reader follows the growing file. With
//! upstream down, grants, stored bytes and stale tags go on; what nobody holds fails fast.

mod answer;
mod blob;
mod cache;
mod fill;
mod grants;
mod lists;
mod manifest;
mod negative_cache;
mod policy;
mod registries;
mod resolve;
mod tag;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use answer::{BlobAnswer, ManifestAnswer, Outcome, Provenance, PullError, ReferrersAnswer, TagsAnswer};
pub use blob::Intent;
pub use cache::retention::lease::Lease;
pub use cache::retention::pins::{Pin, PinError};
pub use cache::retention::{EvictionSettings, Marks};
pub use cache::scrub::{InvalidRate, Lost, Rate, VerifyProgress, VerifyReport, VerifySettings};
pub use cache::usage::Quota;
pub use fill::admission::FillLimits;
pub use fill::progress::WITHHELD_BYTES;
pub use fill::reader::{BlobReader, BlobSource, BodyPart, FillSource, PassThroughSource, unreadable};
pub use grants::UNUSED_DAYS;
pub use lists::referrers::has_artifact_type;
pub use lists::tags_page::TagsQuery;
pub use policy::{FreshnessRule, OnDenied, Policy, Ttl};
pub use registries::{MirrorSettings, RecoveryError, RegistryKey, RegistrySettings};
pub use resolve::{Claims, DOCKER_HUB, NamespaceError, Namespaces, Target, Wildcard};

use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::health::Health;
use crate::index::{Index, Scope};
use crate::metrics::Metrics;
use crate::oci::{Authority, Digest, Reference, Tag};
use crate::store::Store;
use crate::upstream::Upstream;

use cache::memory;
use cache::pending_records::PendingRecords;
use cache::retention::Eviction;
use cache::retention::access_times::AccessTimes;
use fill::admission::Queue;
use fill::in_flight::InFlight;
use manifest::Manifest;
use negative_cache::NegativeCache;
use registries::Registries;

/// The whole mirror, shared by all requests.
pub struct Mirror {
    namespaces: Namespaces,
    registries: Registries,
    store: Store,
    index: Index,
    clock: Clock,
    metrics: Metrics,
    health: Health,
    /// Everything that outlives the request which started it.
    tasks: TaskTracker,
    /// Set when fills must end now.
    stopping: CancellationToken,
    in_flight: InFlight,
    /// Fills that run and that wait.
    queue: Queue,
    checks: Coalesce<(Scope, Tag), Result<tag::Checked, PullError>>,
    manifests: Coalesce<(Scope, Reference), Result<(Manifest, Outcome), PullError>>,
    proofs: Coalesce<(Scope, Digest), Result<(), PullError>>,
    lists: Coalesce<(Scope, String), lists::FetchedList>,
    /// What is asked for all the time.
    memory: memory::Memory,
    negative_cache: NegativeCache,
    /// Digests that could not be stored, and since when.
    uncacheable: moka::sync::Cache<Digest, Timestamp>,
    /// Something on the disk went wrong, and waits to be put in order.
    faults_reported: Notify,
    /// A blob was stored although the disk was thought to fail.
    faults_cleared: Notify,
    access_times: AccessTimes,
    eviction: Eviction,
    pending: PendingRecords,
}

/// One authority: whom to ask, and what its content may do.
pub struct Registry {
    client: Upstream,
    policy: Policy,
}

impl Mirror {
    /// Where a request leads. `default` is the listener's own.
    pub fn resolve(&self, claims: &Claims<'_>, default: &Authority) -> Result<Target, NamespaceError> {
        self.namespaces.resolve(claims, default)
    }

    /// The `ns` to echo, whatever else the request says.
    pub fn admitted_ns(&self, claims: &Claims<'_>) -> Result<Option<Authority>, NamespaceError> {
        self.namespaces.admitted_ns(claims)
    }

    /// A manifest by tag or digest. HEAD asks the same.
    pub async fn manifest(
        self: &Arc<Self>,
        target: &Target,
        reference: &Reference,
    ) -> Result<ManifestAnswer, PullError> {
        let (registry, scope) = self.enter(target)?;
        match reference {
            Reference::Tag(tag) => self.manifest_by_tag(&registry, &scope, tag).await,
            Reference::Digest(digest) => self.manifest_by_digest(&registry, &scope, *digest).await,
        }
    }

    /// The name under which an authority is counted: that of the configured upstream.
    pub fn label(&self, authority: &Authority) -> String {
        self.registry(authority).map_or_else(|| "unknown".to_owned(), |registry| registry.name().to_owned())
    }

    /// The rules, before any lookup: a refused repository is refused cold and warm alike.
    fn enter(&self, target: &Target) -> Result<(Arc<Registry>, Scope), PullError> {
        let authority = &target.authority;
        let registry = self.registry(authority).ok_or_else(|| PullError::NotFound {
            authority: authority.clone(),
            remembered: true,
            offline: false,
        })?;
        if !registry.policy.allows(&target.repository) {
            return Err(PullError::RefusedByRule { authority: authority.clone() });
        }
        let registry = match &target.via {
            None => registry,
            Some(hops) => {
                Arc::new(Registry { client: registry.client.on_behalf_of(hops), policy: registry.policy.clone() })
            }
        };
        let scope = Scope { domain: 0, authority: authority.clone(), repository: target.repository.clone() };
        Ok((registry, scope))
    }

    /// What is not well.
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn show_stored(&self) {
        self.metrics.stored_bytes.set(self.store.used_bytes());
    }
}

impl Registry {
    fn name(&self) -> &str {
        &self.client.settings().name
    }

    fn takes_manifest_of(&self, length: usize) -> bool {
        length as u64 <= self.client.settings().max_manifest_size
    }

    fn not_found(&self, remembered: bool) -> PullError {
        let offline = self.policy.offline;
        PullError::NotFound { authority: self.client.authority().clone(), remembered, offline }
    }

    /// Whether what was checked `age` ago may be served although the check ended with `error` (design §4).
    fn serves_despite(&self, error: &PullError, age: Duration) -> bool {
        let by_cause = if error.is_not_found() {
            self.policy.keep_deleted
        } else if error.is_denied() {
            self.policy.on_denied == OnDenied::Stale
        } else {
            !error.is_upstreams_word()
        };
        by_cause && self.within_max_stale(age)
    }

    fn within_max_stale(&self, age: Duration) -> bool {
        self.policy.max_stale.is_none_or(|max| age <= max)
    }
}
