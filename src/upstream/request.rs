//! One exchange with one endpoint: request, sign-in, redirects, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, RANGE, VIA, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::metrics::{ByAuthority, ByUpstreamRequest};
use crate::oci::{ACCEPT_MANIFESTS, Repository};
use crate::secret::Secret;

use crate::upstream::RegistryClient;
use crate::upstream::auth::challenge::Challenge;
use crate::upstream::auth::{Basic, Party, TokenKey};
use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::endpoint::{Endpoint, same_origin};
use crate::upstream::error::Failure;
use crate::upstream::redirect::{is_redirect, target};

/// Most redirects that are followed. RFC 9110 recommends a limit against loops.
const MAX_REDIRECTS: usize = 5;

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

/// The authentication of a request.
enum Signature {
    None,
    Basic(Basic),
    Bearer { header: Secret, key: TokenKey },
}

impl Signature {
    const fn header(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Basic(basic) => Some(&basic.header),
            Self::Bearer { header, .. } => Some(header),
        }
    }

    const fn is_login(&self) -> bool {
        match self {
            Self::None => false,
            Self::Basic(_) => true,
            Self::Bearer { key, .. } => key.is_login(),
        }
    }
}

/// Extension of each response: time from request to response head, including a new connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredIn(pub(super) Duration);

/// An answer, and the endpoint that gave it.
struct Answered {
    response: reqwest::Response,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
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

    /// Asks the endpoint itself. Signs in by its last known challenge, and once more by the challenge of its answer.
    async fn ask_endpoint(&self, endpoint: &Arc<Endpoint>, question: &Question, url: Url) -> Result<Answered, Failure> {
        let client = self.client.clients.own(question.kind.lane());
        let known = endpoint.challenge();
        let first = self.sign(endpoint, question, known.as_ref()).await;
        if let Err(failure) = &first
            && !matches!(
                failure,
                Failure::DeniedCredentials
                    | Failure::DeniedAnonymous
                    | Failure::LockedOut
                    | Failure::RateLimited { .. }
            )
        {
            // The endpoint may use another challenge by now.
            endpoint.forget_challenge();
        }
        let first = first?;
        let response = self.send(client, question, url.clone(), first.header()).await?;
        self.saw(endpoint, &response);
        if response.status() != StatusCode::UNAUTHORIZED {
            self.worked(question, &first);
            return Ok(Answered { response, by: By::Endpoint { signed_in: first.is_login() } });
        }
        let offered = challenge_in(response.headers());
        let refused = Answered { response, by: By::Endpoint { signed_in: first.is_login() } };
        let challenge = match &first {
            // Some registries answer an expired token without a challenge or with another realm: keep the known one.
            Signature::Bearer { .. } => known,
            // After a refused login, another scheme may work, or credentials that have changed since.
            Signature::None | Signature::Basic(_) => offered.or(known),
        };
        let before = match &first {
            Signature::Basic(basic) => Some(basic.login),
            Signature::None | Signature::Bearer { .. } => None,
        };
        // If the endpoint now wants Bearer, the refusal of Basic does not mean that the password is wrong.
        if !matches!((&first, &challenge), (Signature::Basic(_), Some(Challenge::Bearer { .. }))) {
            self.was_refused(question, first);
        }
        let Some(challenge) = challenge else { return Ok(refused) };
        let second = match self.sign(endpoint, question, Some(&challenge)).await {
            // This login was refused just now by the endpoint itself.
            Err(Failure::LockedOut) if before.is_some() => return Err(Failure::DeniedCredentials),
            second => second?,
        };
        if matches!(second, Signature::None) {
            return Ok(refused);
        }
        let response = self.send(client, question, url, second.header()).await?;
        let by = By::Endpoint { signed_in: second.is_login() };
        if response.status() == StatusCode::UNAUTHORIZED {
            endpoint.forget_challenge();
            self.was_refused(question, second);
        } else {
            endpoint.remember(challenge);
            self.worked(question, &second);
        }
        Ok(Answered { response, by })
    }

    async fn sign(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        challenge: Option<&Challenge>,
    ) -> Result<Signature, Failure> {
        match challenge {
            None => Ok(Signature::None),
            Some(Challenge::Basic) => {
                let basic = self.client.auth.basic(endpoint, &question.repository).await?;
                Ok(basic.map_or(Signature::None, Signature::Basic))
            }
            Some(Challenge::Bearer { realm, service }) => {
                let party = Party::Endpoint(Arc::clone(endpoint));
                let (header, key) =
                    self.client.auth.bearer(&party, realm, service.as_deref(), &question.repository).await?;
                Ok(Signature::Bearer { header, key })
            }
        }
    }

    fn worked(&self, question: &Question, signature: &Signature) {
        if let Signature::Basic(basic) = signature {
            self.client.auth.login_backoff.worked(basic.login, question.repository.as_str());
        }
    }

    fn was_refused(&self, question: &Question, signature: Signature) {
        match signature {
            Signature::None => {}
            Signature::Basic(basic) => {
                self.client.auth.login_backoff.refused_here(basic.login, question.repository.as_str());
            }
            Signature::Bearer { header, key } => self.client.auth.drop_token(&key, &header),
        }
    }

    fn saw(&self, endpoint: &Endpoint, response: &reqwest::Response) {
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

    /// Follows redirects by hand: `Authorization`, client certificate and skip-verify stay with the endpoint's origin,
    /// https never turns into http, and public endpoints cannot lead to private addresses
    /// (docs/SECURITY-THREATS.md, T3 and T4).
    async fn follow(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        mut answered: Answered,
        mut from: Url,
    ) -> Result<Answered, Fault> {
        for _hop in 0..MAX_REDIRECTS {
            if !is_redirect(answered.response.status()) {
                return Ok(answered);
            }
            let to = target(&from, answered.response.headers())?;
            let is_away = matches!(answered.by, By::Target { .. });
            answered = if same_origin(&to, endpoint.origin()) && !is_away {
                self.ask_endpoint(endpoint, question, to.clone()).await?
            } else {
                if question.kind == Kind::Referrers {
                    // ghcr.io has no referrers API, and redirects to a web page instead of answering 404.
                    return Err(Failure::Refused("referrers are redirected".to_owned()).into());
                }
                let asked = self.ask_target(endpoint, question, &to).await;
                asked.map_err(|failure| Fault { failure, redirected: true })?
            };
            from = to;
        }
        if is_redirect(answered.response.status()) {
            return Err(Failure::Refused(format!("more than {MAX_REDIRECTS} redirects")).into());
        }
        Ok(answered)
    }

    /// Asks the target of a redirect, with an anonymous token if it wants one.
    async fn ask_target(&self, endpoint: &Arc<Endpoint>, question: &Question, to: &Url) -> Result<Answered, Failure> {
        let listed = to.host_str().is_some_and(|host| self.client.settings.private_hosts.iter().any(|h| h == host));
        let reach = endpoint.foreign_reach(self.client.settings.public_only, listed);
        reach.check_literal(to).map_err(|blocked| Failure::Refused(blocked.to_string()))?;
        let client = self.client.clients.foreign(question.kind.lane(), reach);
        let response = self.send(client, question, to.clone(), None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(Answered { response, by: By::Target { is_registry: false } });
        }
        let Some(Challenge::Bearer { realm, service }) = challenge_in(response.headers()) else {
            return Ok(Answered { response, by: By::Target { is_registry: false } });
        };
        let party = Party::Target { of: Arc::clone(endpoint), url: to.clone() };
        let (header, key) = self.client.auth.bearer(&party, &realm, service.as_deref(), &question.repository).await?;
        let response = self.send(client, question, to.clone(), Some(&header)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.client.auth.drop_token(&key, &header);
        }
        Ok(Answered { response, by: By::Target { is_registry: true } })
    }

    async fn send(
        &self,
        client: &reqwest::Client,
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
                .map_err(|_invalid| Failure::Refused("the credentials for it cannot be sent in a header".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let asked = Instant::now();
        let mut result = request.send().await.map_err(Failure::of_reqwest);
        if let Ok(response) = &mut result {
            response.extensions_mut().insert(AnsweredIn(asked.elapsed()));
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

    fn verdict(&self, question: &Question, response: &reqwest::Response, by: By) -> Option<Failure> {
        let status = response.status().as_u16();
        match (status, by) {
            // An unrequested part must not count as the whole. Blobs check the range themselves.
            (206, _) if question.kind != Kind::Blob => Some(Failure::Refused("it sent a part of the whole".to_owned())),
            (200 | 206, _) => body::require_identity(response.headers()).err(),
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
            _ => Some(Failure::Refused(format!("unexpected status {status}"))),
        }
    }
}

fn challenge_in(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::parse(&values.collect::<Vec<_>>().join(", "))
}

/// Reads `76` from `ratelimit-remaining: 76;w=21600`, Docker Hub's form.
fn rate_limit_remaining(headers: &HeaderMap) -> Option<i64> {
    headers.get("ratelimit-remaining")?.to_str().ok()?.split(';').next()?.trim().parse().ok()
}
