use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::{Host, Url};

use crate::clock::{Clock, Timestamp};
use crate::oci::{Authority, Repository};

use crate::upstream::auth::known_challenges::KnownChallenges;
use crate::upstream::breaker::{Breaker, Lane};
use crate::upstream::clients::egress::{self, Reach};
use crate::upstream::error::{Failure, UpstreamError};
use crate::upstream::settings::EndpointSettings;

/// How long HEAD of a manifest is not tried after it told nothing.
const NO_HEADS_FOR: Duration = Duration::from_mins(10);

/// One URL that serves an authority, and the state learnt about it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Host and port, for messages and metrics.
    pub(super) label: Arc<str>,
    url: Url,
    forward_ns: bool,
    /// Its 404 is not final.
    pub(super) partial: bool,
    clock: Clock,
    pub(super) breaker: Breaker,
    pub(super) challenges: KnownChallenges,
    /// HEAD of a manifest was refused or named no digest: until this time it is not tried.
    no_heads_until: Mutex<Timestamp>,
    /// It ignores `Range`: a part of a blob was requested and the whole blob came.
    pub(super) ignores_ranges: AtomicBool,
    /// It rate-limited an extra connection: until this time, each download has one connection.
    pub(super) narrow_until: Mutex<Timestamp>,
    /// Whether it was reached at a private address.
    private: AtomicBool,
    /// Requests in a row that the server failed at.
    failures_in_a_row: AtomicU32,
}

/// An endpoint, and whether it is asked now: it is not for a while after it has failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EndpointState {
    /// Host and port.
    pub endpoint: String,
    /// For manifests and lists.
    #[serde(rename = "asks_manifests")]
    pub is_asked_for_manifests: bool,
    #[serde(rename = "asks_blobs")]
    pub is_asked_for_blobs: bool,
}

/// So many failures in a row are a trouble, and not a bad moment.
const FAILING: u32 = 5;

impl Endpoint {
    pub(super) fn new(settings: &EndpointSettings, clock: Clock) -> Self {
        let url = settings.url.clone();
        let host = url.host_str().unwrap_or_default();
        let label = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        Self {
            label: label.into(),
            forward_ns: settings.forward_ns,
            partial: settings.partial,
            breaker: Breaker::new(clock.clone()),
            challenges: KnownChallenges::new(clock.clone()),
            clock,
            no_heads_until: Mutex::default(),
            ignores_ranges: AtomicBool::new(false),
            narrow_until: Mutex::default(),
            private: AtomicBool::new(literal.is_some_and(|address| !egress::is_public(address))),
            failures_in_a_row: AtomicU32::new(0),
            url,
        }
    }

    pub(super) fn state(&self) -> EndpointState {
        EndpointState {
            endpoint: self.label.to_string(),
            is_asked_for_manifests: !self.breaker.is_open(Lane::Manifests),
            is_asked_for_blobs: !self.breaker.is_open(Lane::Blobs),
        }
    }

    /// Counts the end of a request; `None` for one that was answered.
    pub(super) fn count(&self, failure: Option<&Failure>) {
        if failure.is_some_and(Failure::is_of_the_server) {
            self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        } else if failure.is_none_or(|failure| failure.opens_breaker().is_none()) {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the server failed at each of the last requests.
    pub(super) fn is_failing(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) >= FAILING
    }

    /// Builds `<path>/v2/<prefix><repository>/<tail>?<query>`. All parts but the query are checked values. The query holds no
    /// `ns`.
    pub(super) fn url(&self, authority: &Authority, repository: &Repository, tail: &str, query: Option<&str>) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/v2/{}{repository}/{tail}", self.path_before_v2(), self.repository_prefix()));
        url.set_query(query.filter(|query| !query.is_empty()));
        if self.forward_ns {
            url.query_pairs_mut().append_pair("ns", authority.as_str());
        }
        url
    }

    /// `/v2/` itself.
    pub(super) fn ping_url(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/v2/", self.path_before_v2()));
        url
    }

    /// The path below which the API is, from an endpoint's URL that ends in `/v2`: empty, or beginning with `/`.
    pub(super) fn path_before_v2(&self) -> &str {
        self.url.path().trim_end_matches('/').strip_suffix("/v2").unwrap_or_default()
    }

    /// The repository prefix from any other endpoint's URL: empty, or ending in `/`.
    pub(super) fn repository_prefix(&self) -> String {
        let path = self.url.path().trim_matches('/');
        if path.is_empty() || !self.path_before_v2().is_empty() { String::new() } else { format!("{path}/") }
    }

    pub(super) fn origin(&self) -> &Url {
        &self.url
    }

    pub(super) fn saw_address(&self, response: &reqwest::Response) {
        if let Some(address) = response.remote_addr() {
            self.private.store(!egress::is_public(address.ip()), Ordering::Relaxed);
        }
    }

    /// The addresses that redirects and token requests of this endpoint may use.
    pub(super) fn foreign_reach(&self, public_only: bool, listed: bool) -> Reach {
        let private = self.private.load(Ordering::Relaxed) && !public_only;
        if private || listed { Reach::NotLinkLocal } else { Reach::PublicOnly }
    }

    pub(super) fn head_is_useless(&self) -> bool {
        self.clock.now() < *self.no_heads_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One odd answer must not make every later check a GET, which a registry may count.
    pub(super) fn remember_head_is_useless(&self) {
        let until = self.clock.now().plus(NO_HEADS_FOR);
        *self.no_heads_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    pub(super) fn error(&self, failure: Failure) -> UpstreamError {
        UpstreamError { endpoint: Arc::clone(&self.label), failure }
    }
}

/// Whether scheme, host and port are equal. Credentials stay within one origin.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}
