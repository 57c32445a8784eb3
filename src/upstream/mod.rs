//! HTTP out: what one authority's endpoints can be asked, and how they are asked.
//!
//! An operation takes a deadline and goes through the endpoints in their order. Per endpoint the breaker is asked
//! first; then one exchange signs in, follows redirects and reads the status. Nothing here is cached but tokens.

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

pub use auth::{Challenge, TokenAnswer};
pub use blobs::{BlobBody, OpenedBlob, ShownBytes};
pub use clients::{ClientError, is_public};
pub use error::{BreakerCause, Failure, UpstreamError};
pub use extra_connections::SpareConnection;
pub use lists::{ReferrersPage, TagsPage, next_page_query};
pub use manifests::{FetchedManifest, ManifestHead};
pub use settings::{
    ClientIdentity, CredentialRule, CredentialSource, EndpointSettings, ProxySettings, UpstreamSettings,
};

use crate::clock::{Clock, Timestamp};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::oci::{Authority, Digest};

use auth::Auth;
use clients::Clients;
use endpoint::Endpoint;
use request::Requests;

/// Manifests and lists asked for at one time, whatever `max_connections` is.
const MIN_QUESTIONS: usize = 64;

/// When an operation must have its answer.
pub type Deadline = tokio::time::Instant;

/// The endpoints of one authority. Clones share everything that is learnt.
#[derive(Clone)]
pub struct RegistryClient {
    authority: Authority,
    settings: Arc<UpstreamSettings>,
    endpoints: Vec<Arc<Endpoint>>,
    clients: Arc<Clients>,
    auth: Arc<Auth>,
    /// Connections of downloads.
    downloads: Arc<Semaphore>,
    /// Connections of what is passed through without being stored: a slow client holds one for as long as it reads.
    passing: Arc<Semaphore>,
    /// Other questions at one time: those that are being asked outlive their clients, whose number is thus no bound.
    questions: Arc<Semaphore>,
    /// Endpoints that sent wrong bytes for a digest, and until when they are not asked for it.
    marked_bad: Arc<Mutex<HashMap<(usize, Digest), Timestamp>>>,
    /// GETs of manifests are counted there.
    rations: Arc<AtomicBool>,
    via: Arc<str>,
    clock: Clock,
    metrics: Metrics,
}

/// What every upstream of one process shares.
#[derive(Clone)]
pub struct Context {
    pub clock: Clock,
    pub metrics: Metrics,
    pub health: Health,
    pub tasks: TaskTracker,
    /// The value of `Via` by which a loop is recognised.
    pub via: Arc<str>,
}

/// HTTP clients built once per configured upstream; a wildcard's are shared by all authorities that it admits.
#[derive(Clone)]
pub struct UpstreamClients(Arc<Clients>);

impl UpstreamClients {
    pub fn new(settings: &UpstreamSettings) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Clients::new(settings)?)))
    }
}

impl RegistryClient {
    /// Connects to nothing. Under a wildcard, whose settings name no endpoint, the authority is its own.
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
            endpoints.push(Arc::new(Endpoint::new(&EndpointSettings { url, forward_ns: false }, clock.clone())));
        }
        let clients = Arc::clone(&clients.0);
        let auth = Auth::new(
            Arc::clone(&settings),
            authority.clone(),
            Arc::clone(&clients),
            clock.clone(),
            context.metrics.clone(),
            context.tasks.clone(),
        );
        Ok(Self {
            authority,
            endpoints,
            clients,
            auth: Arc::new(auth),
            downloads: Arc::new(Semaphore::new(settings.max_connections)),
            passing: Arc::new(Semaphore::new(settings.max_connections)),
            questions: Arc::new(Semaphore::new(settings.max_connections.max(MIN_QUESTIONS))),
            marked_bad: Arc::default(),
            rations: Arc::new(AtomicBool::new(settings.rations)),
            via: Arc::clone(&context.via),
            clock,
            metrics: context.metrics.clone(),
            settings,
        })
    }

    /// The same, for a request that came through other proxies: each of them must recognise itself in what goes up.
    #[must_use]
    pub fn on_behalf_of(&self, hops: &str) -> Self {
        Self { via: format!("{hops}, {}", self.via).into(), ..self.clone() }
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Whether GETs of manifests are counted there, by its settings or by what it has told.
    pub fn counts_pulls(&self) -> bool {
        self.rations.load(Ordering::Relaxed)
    }

    /// The latest moment at which an answer that nobody holds a copy of may begin.
    pub fn answer_deadline(&self) -> Deadline {
        Deadline::now() + self.settings.response_timeout
    }

    const fn requests(&self) -> Requests<'_> {
        Requests { client: self }
    }

    /// After a lie, the endpoint is not asked for that digest for a while.
    pub fn mark_bad(&self, endpoint: usize, digest: Digest) {
        const WINDOW: Duration = Duration::from_secs(10);
        let now = self.clock.now();
        let mut marked_bad = self.marked_bad.lock().unwrap_or_else(PoisonError::into_inner);
        marked_bad.retain(|_, until| now < *until);
        marked_bad.insert((endpoint, digest), now.plus(WINDOW));
    }

    /// Whether there is an endpoint that may be asked for this digest.
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
