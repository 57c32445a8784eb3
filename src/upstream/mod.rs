//! HTTP out: the requests that a registry's endpoints answer.
//!
//! An operation takes a deadline and tries the endpoints in order. The endpoint's circuit breaker decides first; then one
//! exchange signs in, follows redirects and reads the status. Only tokens and logins are cached here.

mod auth;
mod blobs;
mod body;
mod breaker;
mod clients;
mod endpoint;
mod error;
mod extra_connections;
mod failover;
mod lists;
mod manifests;
mod redirect;
mod request;
mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use auth::cloud::{Cloud, CloudIdentity, CloudVariables, InvalidVariable, may_hear_secrets};
pub use auth::{Challenge, RefusedLogin, TokenAnswer};
pub use blobs::{BlobBody, OpenedBlob, PassingPlace, ShownBytes};
pub use breaker::trouble::{Trouble, TroubleKind, Troubles};
pub use clients::{ClientError, DocumentError, check_ca, is_public, read_document, system_trust};
pub use endpoint::EndpointState;
pub use error::{BreakerCause, Failure, UpstreamError};
pub use extra_connections::SpareConnection;
pub use lists::{ReferrerList, ReferrersPage, TagList, TagsPage, next_page_query, read_in_turn};
pub use manifests::{FetchedManifest, ManifestHead};
pub use settings::{
    ClientIdentity, CredentialRule, CredentialSource, EndpointSettings, ProxySettings, UpstreamSettings,
};

use crate::clock::{Clock, Timestamp};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::oci::{Authority, Digest};

use auth::Auth;
use auth::cloud::tokens::CloudTokens;
use blobs::Places;
use breaker::Lane;
use clients::Clients;
use endpoint::Endpoint;

/// Least limit of concurrent manifest and list requests, however small `max_connections` is.
const MIN_QUESTIONS: usize = 64;

/// The time by which an operation must have its answer.
pub type Deadline = tokio::time::Instant;

/// The client of one registry and its endpoints. Clones share all state.
#[derive(Clone)]
pub struct RegistryClient {
    authority: Authority,
    settings: Arc<UpstreamSettings>,
    endpoints: Vec<Arc<Endpoint>>,
    clients: Arc<Clients>,
    auth: Arc<Auth>,
    /// Connections of downloads.
    downloads: Arc<Semaphore>,
    /// Connections of blobs that are passed through without storing. A slow client holds one for as long as it reads.
    passing: Arc<Semaphore>,
    /// Those that are taken.
    places: Places,
    /// For long bodies of other requests.
    rooms: Arc<body::Rooms>,
    /// Limits other requests. They may outlive their clients, so the number of clients is no bound.
    questions: Arc<Semaphore>,
    /// Endpoints that sent wrong bytes for a digest, with the time until which they are not asked for it.
    marked_bad: Arc<Mutex<HashMap<(usize, Digest), Timestamp>>>,
    /// Whether the registry counts GETs of manifests as pulls.
    counts_pulls: Arc<AtomicBool>,
    /// Whether the only endpoint is asked once more when it failed for a moment.
    asks_again: bool,
    via: Arc<str>,
    clock: Clock,
    metrics: Metrics,
    troubles: Troubles,
}

/// The parts that all registry clients of a process share.
#[derive(Clone)]
pub struct Context {
    pub clock: Clock,
    pub metrics: Metrics,
    pub health: Health,
    /// Of all upstreams.
    pub troubles: Troubles,
    /// Work that outlives its request, such as the renewal of a token.
    pub tasks: TaskTracker,
    /// Our value of `Via`, by which loops are found.
    pub via: Arc<str>,
}

/// The HTTP clients of one configured upstream. All authorities that a wildcard admits share its clients.
#[derive(Clone)]
pub struct UpstreamClients {
    clients: Arc<Clients>,
    /// Logins of identities of clouds, if it has any.
    cloud: Option<Arc<CloudTokens>>,
}

impl UpstreamClients {
    /// Fails if certificates, trust store or proxy cannot be used.
    pub fn new(settings: &UpstreamSettings, context: &Context) -> Result<Self, ClientError> {
        let is_cloud = |rule: &CredentialRule| matches!(rule.source, CredentialSource::Cloud(_));
        let cloud = settings.credentials.iter().any(is_cloud).then(|| CloudTokens::new(settings, context));
        Ok(Self { clients: Arc::new(Clients::new(settings)?), cloud: cloud.transpose()?.map(Arc::new) })
    }
}

impl RegistryClient {
    /// Makes a client without connecting. A wildcard's settings have no endpoint: the authority itself is the endpoint.
    pub fn new(
        authority: Authority,
        settings: Arc<UpstreamSettings>,
        clients: &UpstreamClients,
        context: &Context,
    ) -> Result<Self, url::ParseError> {
        let clock = context.clock.clone();
        let mut endpoints: Vec<_> =
            settings.endpoints.iter().map(|endpoint| Arc::new(Endpoint::new(endpoint, clock.clone()))).collect();
        if endpoints.is_empty() {
            let url = format!("https://{authority}").parse()?;
            endpoints.push(Arc::new(Endpoint::new(
                &EndpointSettings { url, forward_ns: false, partial: false },
                clock.clone(),
            )));
        }
        let UpstreamClients { clients, cloud } = clients.clone();
        let auth = Auth::new(Arc::clone(&settings), authority.clone(), Arc::clone(&clients), cloud, context);
        Ok(Self {
            authority,
            endpoints,
            clients,
            auth: Arc::new(auth),
            downloads: Arc::new(Semaphore::new(settings.max_connections)),
            passing: Arc::new(Semaphore::new(settings.max_connections)),
            places: Places::default(),
            rooms: Arc::default(),
            questions: Arc::new(Semaphore::new(settings.max_connections.max(MIN_QUESTIONS))),
            marked_bad: Arc::default(),
            counts_pulls: Arc::new(AtomicBool::new(settings.counts_pulls)),
            asks_again: true,
            via: Arc::clone(&context.via),
            clock,
            metrics: context.metrics.clone(),
            troubles: context.troubles.clone(),
            settings,
        })
    }

    /// The same client for a request that came through other proxies, whose `Via` values are passed on.
    #[must_use]
    pub fn on_behalf_of(&self, hops: &str) -> Self {
        Self { via: format!("{hops}, {}", self.via).into(), ..self.clone() }
    }

    /// The same client for a question that can do without an answer, as something is held: nothing is asked twice.
    #[must_use]
    pub fn asking_once(&self) -> Self {
        Self { asks_again: false, ..self.clone() }
    }

    /// The registry that this client is for.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Whether the registry counts GETs of manifests as pulls, by configuration or by its rate limit headers.
    pub fn counts_pulls(&self) -> bool {
        self.counts_pulls.load(Ordering::Relaxed)
    }

    /// Whether each endpoint's breaker has opened for manifests, and not closed since.
    pub fn is_manifests_tripped(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.breaker.is_tripped(Lane::Manifests))
    }

    /// The same for blobs.
    pub fn is_blobs_tripped(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.breaker.is_tripped(Lane::Blobs))
    }

    /// Its endpoints in the order of use, and whether they are asked now.
    pub fn endpoint_states(&self) -> Vec<EndpointState> {
        self.endpoints.iter().map(|endpoint| endpoint.state()).collect()
    }

    /// The credentials that the registry refuses now, if any; those that it has refused for longest.
    pub fn login_refused(&self) -> Option<RefusedLogin> {
        self.auth.refused_login()
    }

    /// The deadline of an answer that is not cached: `response_timeout` from now.
    pub fn answer_deadline(&self) -> Deadline {
        Deadline::now() + self.settings.response_timeout
    }

    /// Records that the endpoint sent wrong bytes for the digest. It is not asked for it for 10 seconds.
    pub fn mark_bad(&self, endpoint: usize, digest: Digest) {
        const WINDOW: Duration = Duration::from_secs(10);
        let now = self.clock.now();
        let mut marked_bad = self.marked_bad.lock().unwrap_or_else(PoisonError::into_inner);
        marked_bad.retain(|_, until| now < *until);
        marked_bad.insert((endpoint, digest), now.plus(WINDOW));
    }

    /// Whether some endpoint may be asked for this digest.
    pub fn has_good_endpoint(&self, digest: Digest) -> bool {
        (0..self.endpoints.len()).any(|endpoint| !self.is_marked_bad(endpoint, digest))
    }

    pub(super) fn is_marked_bad(&self, endpoint: usize, digest: Digest) -> bool {
        let marked_bad = self.marked_bad.lock().unwrap_or_else(PoisonError::into_inner);
        marked_bad.get(&(endpoint, digest)).is_some_and(|until| self.clock.now() < *until)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient").field("authority", &self.authority).finish_non_exhaustive()
    }
}
