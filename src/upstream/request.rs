//! One exchange with one endpoint: request, answer, verdict. Signing in is in `auth/sign_in.rs`, redirects in `redirect.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, RANGE, VIA};
use http::{HeaderMap, Method};
use tokio::time::Instant;
use url::Url;

use crate::metrics::{ByAuthority, ByUpstreamKind, ByUpstreamRequest};
use crate::oci::{ACCEPT_MANIFESTS, Repository};
use crate::secret::Secret;

use crate::upstream::RegistryClient;
use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::clients::Pool;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;

/// A request without its endpoint.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) repository: Repository,
    /// The path after the repository: `manifests/latest`.
    pub(super) tail: String,
    pub(super) query: Option<String>,
    /// Inclusive positions, as in `Range`.
    pub(super) range: Option<(u64, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Manifest,
    Blob,
    Tags,
    Referrers,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
        }
    }

    pub(super) const fn lane(self) -> Lane {
        match self {
            Self::Blob => Lane::Blobs,
            Self::Manifest | Self::Tags | Self::Referrers => Lane::Manifests,
        }
    }

    /// Whether a failure of a moment is worth a second try. A list is asked for again by who reads it.
    pub(super) const fn is_pulled(self) -> bool {
        matches!(self, Self::Manifest | Self::Blob)
    }

    const fn accept(self) -> &'static str {
        match self {
            Self::Manifest => ACCEPT_MANIFESTS,
            Self::Blob => "*/*",
            Self::Tags => "application/json",
            Self::Referrers => "application/vnd.oci.image.index.v1+json",
        }
    }
}

/// A failure, with whether a redirect had already led away from the endpoint.
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) redirected: bool,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { failure, redirected: false }
    }
}

/// Extension of each response: time from request to response head, including a new connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredIn(pub(super) Duration);

/// An answer, and the endpoint that gave it.
pub(super) struct Answered {
    pub(super) response: reqwest::Response,
    pub(super) by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The endpoint itself.
    Endpoint { signed_in: bool },
    /// The target of a redirect: a registry if it asked for a token, else a file server.
    Target { is_registry: bool },
}

/// The requests of one registry's client.
pub(super) struct Requests<'c> {
    pub(super) client: &'c RegistryClient,
}

impl<'c> Requests<'c> {
    pub(super) const fn of(client: &'c RegistryClient) -> Self {
        Self { client }
    }

    /// Sends the request and reads the status: 2xx is an answer, everything else a failure.
    pub(super) async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
    ) -> Result<reqwest::Response, Fault> {
        let url = endpoint.url(&self.client.authority, &question.repository, &question.tail, question.query.as_deref());
        let answered = self.ask_endpoint(endpoint, question, url.clone()).await?;
        let Answered { response, by } = self.follow(endpoint, question, answered, url).await?;
        match self.verdict(question, &response, by) {
            None => Ok(response),
            Some(failure) => Err(Fault { failure, redirected: matches!(by, By::Target { .. }) }),
        }
    }

    pub(super) fn saw(&self, endpoint: &Endpoint, response: &reqwest::Response) {
        // With a proxy, the remote address is the proxy's.
        if self.client.settings.proxy.is_none() {
            endpoint.saw_address(response);
        }
        if let Some(remaining) = rate_limit_remaining(response.headers()) {
            self.client.counts_pulls.store(true, Ordering::Relaxed);
            self.client
                .metrics
                .rate_limit_remaining
                .get_or_create(&ByAuthority::of(&self.client.settings.name))
                .set(remaining);
        }
    }

    pub(super) async fn send(
        &self,
        client: &Pool,
        question: &Question,
        url: Url,
        authorization: Option<&Secret>,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = client
            .request(question.method.clone(), url)
            .header(ACCEPT, question.kind.accept())
            .header(ACCEPT_ENCODING, "identity")
            .header(http::header::USER_AGENT, concat!("roadstead/", env!("CARGO_PKG_VERSION")))
            .header(VIA, &*self.client.via);
        if let Some((first, last)) = question.range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(authorization) = authorization {
            let mut value = http::HeaderValue::from_str(authorization.expose())
                .map_err(|_invalid| Failure::unsendable_credentials())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let asked = Instant::now();
        let mut result = client.send(request).await;
        if let Ok(response) = &mut result {
            let answered_in = asked.elapsed();
            response.extensions_mut().insert(AnsweredIn(answered_in));
            let labels = ByUpstreamKind { authority: self.client.settings.name.clone(), kind: question.kind.name() };
            self.client.metrics.upstream_response.get_or_create(&labels).observe(answered_in);
        }
        let status = result.as_ref().map_or_else(|_| "error".to_owned(), |r| r.status().as_u16().to_string());
        let labels = ByUpstreamRequest {
            authority: self.client.settings.name.clone(),
            kind: question.kind.name(),
            method: question.method.to_string(),
            status,
        };
        self.client.metrics.upstream_requests.get_or_create(&labels).inc();
        result
    }

    /// Reads a JSON body of at most `limit_bytes`, and counts it. `key` is the key of the configuration that raises the
    /// limit. A body that is labelled as compressed is taken for what it is.
    pub(super) async fn read(
        &self,
        response: reqwest::Response,
        limit_bytes: u64,
        key: &'static str,
    ) -> Result<body::Body, Failure> {
        let settings = &self.client.settings;
        let is_labelled = body::is_compressed(response.headers());
        let body = body::read_capped(response, limit_bytes, key, settings.idle_timeout, &self.client.rooms).await?;
        let labels = ByAuthority::of(&settings.name);
        self.client.metrics.upstream_bytes.get_or_create(&labels).inc_by(body.bytes.len() as u64);
        if is_labelled && !body.bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Failure::Refused("its body is compressed, though identity was asked for".to_owned()));
        }
        Ok(body)
    }

    fn verdict(&self, question: &Question, response: &reqwest::Response, by: By) -> Option<Failure> {
        let status = response.status().as_u16();
        match (status, by) {
            // An unrequested part must not count as the whole. Blobs check the range themselves.
            (206, _) if question.kind != Kind::Blob => Some(Failure::Refused("it sent a part of the whole".to_owned())),
            (200 | 206, _) => None,
            (401 | 403 | 405 | 501, _) if question.method == Method::HEAD => Some(Failure::HeadRefused),
            (401 | 403, By::Endpoint { signed_in: true }) => Some(Failure::DeniedCredentials),
            (401 | 403, By::Endpoint { signed_in: false } | By::Target { is_registry: true }) => {
                Some(Failure::DeniedAnonymous)
            }
            // A refused signed URL proves nothing about the repository: the registry will give out another.
            (401 | 403, By::Target { is_registry: false }) => {
                Some(Failure::Broken(format!("where it redirects to answers with status {status}")))
            }
            (404 | 410, _) => Some(Failure::NotFound),
            (416, _) => Some(Failure::RangeNotThere),
            (429, _) => {
                Some(Failure::RateLimited { retry_after: body::retry_after(response.headers(), &self.client.clock) })
            }
            (408 | 500.., _) => Some(Failure::ServerError(status)),
            (400..=499, _) => Some(Failure::UnexpectedStatus(status)),
            _ if question.method == Method::HEAD => Some(Failure::HeadRefused),
            _ => Some(Failure::Refused(format!("unexpected status {status}"))),
        }
    }
}

/// Reads `76` from `ratelimit-remaining: 76;w=21600`, Docker Hub's form.
fn rate_limit_remaining(headers: &HeaderMap) -> Option<i64> {
    headers.get("ratelimit-remaining")?.to_str().ok()?.split(';').next()?.trim().parse().ok()
}
