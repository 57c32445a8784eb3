//! One question to one endpoint: request, sign-in, redirects, answer.

use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE, VIA, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::metrics::{ByAuthority, ByUpstreamRequest};
use crate::oci::{ACCEPT_MANIFESTS, Repository};
use crate::secret::Secret;

use super::Upstream;
use super::auth::{Party, TokenKey};
use super::body;
use super::breaker::Lane;
use super::challenge::Challenge;
use super::endpoint::{Endpoint, same_origin};
use super::error::Failure;

/// RFC 9110 recommends a limit; more hops than this are a loop or a trick.
const MAX_REDIRECTS: usize = 5;

/// What is asked, without saying whom.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) repository: Repository,
    /// Behind the repository: `manifests/latest`.
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

/// A failure, and whether a redirect had already led away from the endpoint.
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) redirected: bool,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { failure, redirected: false }
    }
}

/// How a request was signed, so that a 401 can be told apart.
enum Signed {
    Not,
    Basic,
    Bearer(TokenKey),
}

impl Upstream {
    /// Asks, and reads the status: 2xx is an answer, everything else a failure.
    pub(super) async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
    ) -> Result<reqwest::Response, Fault> {
        let url = endpoint.url(&self.authority, &question.repository, &question.tail, question.query.as_deref());
        let response = self.ask_endpoint(endpoint, question, url.clone()).await?;
        let (response, redirected) = self.follow(endpoint, question, response, url).await?;
        match self.verdict(endpoint, question, &response) {
            None => Ok(response),
            Some(failure) => Err(Fault { failure, redirected }),
        }
    }

    /// The endpoint's own answer, signed in if it asks for that.
    async fn ask_endpoint(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        url: Url,
    ) -> Result<reqwest::Response, Failure> {
        let client = self.clients.own(question.kind.lane());
        let known = endpoint.challenge();
        let (header, signed) = self.sign(endpoint, question, known.as_ref()).await?;
        let response = self.send(client, question, url.clone(), header.as_ref()).await?;
        endpoint.saw_address(&response);
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if let Signed::Bearer(key) = &signed {
            self.auth.drop_token(key);
        }
        if matches!(signed, Signed::Basic) {
            self.auth.basic_was_refused(endpoint, self.auth.credential_for(&question.repository)).await;
            return Ok(response);
        }
        // Some registries answer an expired token without a challenge, or with another realm: the first one stands.
        let offered = challenge_in(response.headers());
        let Some(challenge) = known.or(offered) else { return Ok(response) };
        endpoint.remember(&challenge);
        let (header, signed) = self.sign(endpoint, question, Some(&challenge)).await?;
        if header.is_none() {
            return Ok(response);
        }
        let response = self.send(client, question, url, header.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            match signed {
                Signed::Bearer(key) => {
                    self.auth.drop_token(&key);
                    endpoint.forget_challenge();
                }
                Signed::Basic => {
                    self.auth.basic_was_refused(endpoint, self.auth.credential_for(&question.repository)).await;
                }
                Signed::Not => {}
            }
        }
        Ok(response)
    }

    async fn sign(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        challenge: Option<&Challenge>,
    ) -> Result<(Option<Secret>, Signed), Failure> {
        match challenge {
            None => Ok((None, Signed::Not)),
            Some(Challenge::Basic) => {
                let credential = self.auth.credential_for(&question.repository);
                let header = self.auth.basic(endpoint, credential).await?;
                let signed = if header.is_some() { Signed::Basic } else { Signed::Not };
                Ok((header, signed))
            }
            Some(Challenge::Bearer { realm, service }) => {
                let party = Party::Endpoint(Arc::clone(endpoint));
                let (header, key) = self.auth.bearer(&party, realm, service.as_deref(), &question.repository).await?;
                Ok((Some(header), Signed::Bearer(key)))
            }
        }
    }

    /// Follows redirects by hand: `Authorization`, client certificate and skip-verify stay with the endpoint's origin,
    /// https never turns into http, and private addresses are out of reach of public endpoints (security T3, T4).
    async fn follow(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        mut response: reqwest::Response,
        mut from: Url,
    ) -> Result<(reqwest::Response, bool), Fault> {
        let lane = question.kind.lane();
        let mut away = false;
        for _hop in 0..MAX_REDIRECTS {
            if !is_redirect(response.status()) {
                return Ok((response, away));
            }
            let to = target(&from, response.headers())?;
            if same_origin(&to, endpoint.origin()) && !away {
                response = self.ask_endpoint(endpoint, question, to.clone()).await?;
            } else {
                if question.kind == Kind::Referrers {
                    // ghcr.io leads to a web page instead of saying that it has no such API.
                    return Err(Failure::Refused("referrers are redirected".to_owned()).into());
                }
                away = true;
                let fault = |failure| Fault { failure, redirected: true };
                let listed = to.host_str().is_some_and(|host| self.settings.private_hosts.iter().any(|h| h == host));
                let reach = endpoint.foreign_reach(self.settings.public_only, listed);
                reach.check_literal(&to).map_err(|blocked| fault(Failure::Refused(blocked.to_string())))?;
                let client = self.clients.foreign(lane, reach);
                response = self.send(client, question, to.clone(), None).await.map_err(fault)?;
                if response.status() == StatusCode::UNAUTHORIZED
                    && let Some(Challenge::Bearer { realm, service }) = challenge_in(response.headers())
                {
                    let party = Party::Target { of: Arc::clone(endpoint), url: to.clone() };
                    let token = self.auth.bearer(&party, &realm, service.as_deref(), &question.repository).await;
                    let (header, _) = token.map_err(fault)?;
                    response = self.send(client, question, to.clone(), Some(&header)).await.map_err(fault)?;
                }
            }
            from = to;
        }
        if is_redirect(response.status()) {
            return Err(Failure::Refused(format!("more than {MAX_REDIRECTS} redirects")).into());
        }
        Ok((response, away))
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
            .header(VIA, &*self.via);
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
        let result = request.send().await.map_err(Failure::of_reqwest);
        let status = result.as_ref().map_or_else(|_| "error".to_owned(), |r| r.status().as_u16().to_string());
        let labels = ByUpstreamRequest {
            authority: self.settings.name.clone(),
            kind: question.kind.name(),
            method: question.method.to_string(),
            status,
        };
        self.metrics.upstream_requests.get_or_create(&labels).inc();
        if let Ok(response) = &result
            && let Some(remaining) = rate_limit_remaining(response.headers())
        {
            self.metrics.rate_limit_remaining.get_or_create(&ByAuthority::of(&self.settings.name)).set(remaining);
        }
        result
    }

    fn verdict(&self, endpoint: &Endpoint, question: &Question, response: &reqwest::Response) -> Option<Failure> {
        let status = response.status().as_u16();
        match status {
            200 | 206 => body::require_identity(response.headers()).err(),
            401 | 403 | 405 | 501 if question.method == Method::HEAD => Some(Failure::HeadRefused),
            401 | 403 => {
                let signed_in = match self.auth.credential_for(&question.repository) {
                    None => false,
                    // Credentials that the endpoint never asked for were never sent.
                    Some(_) => {
                        status == 403 || endpoint.challenge().is_some() || challenge_in(response.headers()).is_some()
                    }
                };
                Some(if signed_in { Failure::DeniedCredentials } else { Failure::DeniedAnonymous })
            }
            404 | 410 => Some(Failure::NotFound),
            416 => Some(Failure::RangeNotThere),
            429 => Some(Failure::RateLimited { retry_after: body::retry_after(response.headers(), &self.clock) }),
            408 | 500.. => Some(Failure::ServerError(status)),
            400..=499 => Some(Failure::UnexpectedStatus(status)),
            _ => Some(Failure::Refused(format!("unexpected status {status}"))),
        }
    }
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn challenge_in(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::parse(&values.collect::<Vec<_>>().join(", "))
}

fn target(from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| Failure::Refused("a redirect without a usable Location".to_owned()))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        (_, scheme) => Err(Failure::Refused(format!("a redirect from {} to {scheme}", from.scheme()))),
    }
}

/// `76` of `ratelimit-remaining: 76;w=21600`, as Docker Hub sends it.
fn rate_limit_remaining(headers: &HeaderMap) -> Option<i64> {
    headers.get("ratelimit-remaining")?.to_str().ok()?.split(';').next()?.trim().parse().ok()
}
