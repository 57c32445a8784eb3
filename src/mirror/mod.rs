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
//! What is asked for often is answered from memory ([`hot`]); any other hit touches the index and one file. A miss asks upstream, and every reader follows the growing file. With
//! upstream down, grants, stored bytes and stale tags go on; what nobody holds fails fast.

mod at_hand;
mod blobs;
mod books;
mod checkpoints;
mod connection;
mod crew;
mod disk;
mod download;
mod evict;
mod fill;
mod flight;
mod grants;
mod hold;
mod hot;
mod intervals;
mod lead;
mod lists;
mod manifests;
mod namespace;
mod negative;
mod outcome;
mod pins;
mod policy;
mod queue;
mod reader;
mod recency;
mod referrers;
mod room;
mod segments;
mod shortage;
mod start;
mod tag_list;
mod tags;
mod unsettled;
mod verify;
mod width;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use blobs::Intent;
pub use books::Quota;
pub use evict::{EvictionSettings, Marks};
pub use fill::WITHHELD_BYTES;
pub use grants::UNUSED_DAYS;
pub use hold::Hold;
pub use namespace::{Claims, DOCKER_HUB, NamespaceError, Namespaces, Place, Wildcard};
pub use outcome::{BlobAnswer, ManifestAnswer, Outcome, Provenance, PullError, ReferrersAnswer, TagsAnswer};
pub use pins::{Pin, PinError};
pub use policy::{FreshnessRule, OnDenied, Policy, Ttl};
pub use queue::FillLimits;
pub use reader::{BlobReader, BlobSource, FillSource, Piece, UncachedSource, unreadable};
pub use referrers::has_artifact_type;
pub use start::{MemberKey, MemberSettings, MirrorSettings, RecoveryError};
pub use tag_list::TagsQuery;
pub use verify::{InvalidRate, Lost, Rate, VerifyProgress, VerifyReport, VerifySettings};

use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::health::Health;
use crate::index::{Index, Scope};
use crate::metrics::Metrics;
use crate::oci::{Authority, Digest, Reference, Tag};
use crate::store::Store;
use crate::upstream::Upstream;

use evict::Eviction;
use flight::Flights;
use manifests::Manifest;
use negative::Negatives;
use queue::Queue;
use recency::Recency;
use start::Members;

/// The whole mirror, shared by all requests.
pub struct Mirror {
    namespaces: Namespaces,
    members: Members,
    store: Store,
    index: Index,
    clock: Clock,
    metrics: Metrics,
    health: Health,
    /// Everything that outlives the request which started it.
    tasks: TaskTracker,
    /// Set when fills must end now.
    stopping: CancellationToken,
    flights: Flights,
    /// Fills that run and that wait.
    queue: Queue,
    checks: Coalesce<(Scope, Tag), Result<tags::Checked, PullError>>,
    manifests: Coalesce<(Scope, Reference), Result<(Manifest, Outcome), PullError>>,
    proofs: Coalesce<(Scope, Digest), Result<(), PullError>>,
    lists: Coalesce<(Scope, String), lists::FetchedList>,
    /// What is asked for all the time.
    hot: hot::Hot,
    negatives: Negatives,
    /// Digests that could not be stored, and since when.
    uncacheable: moka::sync::Cache<Digest, Timestamp>,
    /// Something on the disk went wrong, and waits to be put in order.
    disk_trouble: Notify,
    /// A blob was stored although the disk was thought to fail.
    disk_mended: Notify,
    recency: Recency,
    eviction: Eviction,
    accounts: unsettled::Accounts,
}

/// One authority: whom to ask, and what its content may do.
pub struct Member {
    upstream: Upstream,
    policy: Policy,
}

impl Mirror {
    /// Where a request leads. `default` is the listener's own.
    pub fn resolve(&self, claims: &Claims<'_>, default: &Authority) -> Result<Place, NamespaceError> {
        self.namespaces.resolve(claims, default)
    }

    /// The `ns` to echo, whatever else the request says.
    pub fn admitted_ns(&self, claims: &Claims<'_>) -> Result<Option<Authority>, NamespaceError> {
        self.namespaces.admitted_ns(claims)
    }

    /// A manifest by tag or digest. HEAD asks the same.
    pub async fn manifest(self: &Arc<Self>, place: &Place, reference: &Reference) -> Result<ManifestAnswer, PullError> {
        let (member, scope) = self.enter(place)?;
        match reference {
            Reference::Tag(tag) => self.manifest_by_tag(&member, &scope, tag).await,
            Reference::Digest(digest) => self.manifest_by_digest(&member, &scope, *digest).await,
        }
    }

    /// The name under which an authority is counted: that of the configured upstream.
    pub fn label(&self, authority: &Authority) -> String {
        self.member(authority).map_or_else(|| "unknown".to_owned(), |member| member.name().to_owned())
    }

    /// The rules, before any lookup: a refused repository is refused cold and warm alike.
    fn enter(&self, place: &Place) -> Result<(Arc<Member>, Scope), PullError> {
        let authority = &place.authority;
        let member = self.member(authority).ok_or_else(|| PullError::NotFound {
            authority: authority.clone(),
            remembered: true,
            offline: false,
        })?;
        if !member.policy.allows(&place.repository) {
            return Err(PullError::RefusedByRule { authority: authority.clone() });
        }
        let member = match &place.via {
            None => member,
            Some(hops) => {
                Arc::new(Member { upstream: member.upstream.on_behalf_of(hops), policy: member.policy.clone() })
            }
        };
        let scope = Scope { domain: 0, authority: authority.clone(), repository: place.repository.clone() };
        Ok((member, scope))
    }

    /// What is not well.
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn show_stored(&self) {
        self.metrics.stored_bytes.set(self.store.used_bytes());
    }
}

impl Member {
    fn name(&self) -> &str {
        &self.upstream.settings().name
    }

    fn takes_manifest_of(&self, length: usize) -> bool {
        length as u64 <= self.upstream.settings().max_manifest_size
    }

    fn not_found(&self, remembered: bool) -> PullError {
        let offline = self.policy.offline;
        PullError::NotFound { authority: self.upstream.authority().clone(), remembered, offline }
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
