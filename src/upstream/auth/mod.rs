//! Authentication by Bearer tokens and Basic (distribution, `docs/content/spec/auth/token.md`).
//!
//! Tokens are cached per realm, service, scope and credential until shortly before they expire. One request at a time
//! renews each. A refused login is not repeated for a while, unless the credentials have changed.

pub(in crate::upstream) mod challenge;
mod credentials;
mod login_backoff;
mod token;

pub use challenge::Challenge;
pub use token::TokenAnswer;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::metrics::{ByUpstreamRequest, Metrics};
use crate::oci::{Authority, Repository};
use crate::secret::Secret;

use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::clients::Clients;
use crate::upstream::endpoint::{Endpoint, same_origin};
use crate::upstream::error::Failure;
use crate::upstream::settings::{CredentialSource, UpstreamSettings};
use credentials::Login;
use login_backoff::{Fingerprint, LoginBackoff, LoginPermit};

/// Largest answer of a token server. A larger one is refused.
const MAX_TOKEN_BYTES: u64 = 1024 * 1024;
const MAX_TOKENS: u64 = 10_000;
/// How long a helper's answer is used before the helper runs again, unless the answer is refused earlier.
const HELPER_ANSWER_LIFE: Duration = Duration::from_mins(1);

pub(in crate::upstream) struct Auth {
    settings: Arc<UpstreamSettings>,
    authority: Authority,
    clients: Arc<Clients>,
    clock: Clock,
    metrics: Metrics,
    tokens: moka::sync::Cache<TokenKey, Token>,
    renewals: Coalesce<TokenKey, Result<Token, Failure>>,
    tasks: TaskTracker,
    /// Logins from helper programs, by credential and host.
    helped: moka::sync::Cache<(usize, String), (Login, Timestamp)>,
    pub(in crate::upstream) login_backoff: LoginBackoff,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct TokenKey {
    realm: Url,
    service: Option<String>,
    scope: String,
    /// Index of the credential rule; `None` is anonymous.
    credential: Option<usize>,
}

/// A Basic login for one request, held until the request is answered.
#[derive(Debug)]
pub(in crate::upstream) struct Basic {
    pub(in crate::upstream) header: Secret,
    pub(in crate::upstream) login: Fingerprint,
    _permit: LoginPermit,
}

impl TokenKey {
    /// Whether the token was obtained with credentials.
    pub(in crate::upstream) const fn is_login(&self) -> bool {
        self.credential.is_some()
    }
}

#[derive(Debug, Clone)]
struct Token {
    header: Secret,
    /// From this time on, the first use starts a renewal in the background.
    ageing: Timestamp,
    expires: Timestamp,
}

/// The server that a token is for: the endpoint, with credentials, or a redirect target, always anonymously.
#[derive(Debug, Clone)]
pub(in crate::upstream) enum Party {
    Endpoint(Arc<Endpoint>),
    Target { of: Arc<Endpoint>, url: Url },
}

impl Party {
    fn endpoint(&self) -> &Arc<Endpoint> {
        match self {
            Self::Endpoint(endpoint) | Self::Target { of: endpoint, .. } => endpoint,
        }
    }

    fn url(&self) -> &Url {
        match self {
            Self::Endpoint(endpoint) => endpoint.origin(),
            Self::Target { url, .. } => url,
        }
    }
}

impl Auth {
    pub(in crate::upstream) fn new(
        settings: Arc<UpstreamSettings>,
        authority: Authority,
        clients: Arc<Clients>,
        clock: Clock,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            settings,
            authority,
            clients,
            metrics,
            tokens: moka::sync::Cache::new(MAX_TOKENS),
            renewals: Coalesce::new(tasks.clone()),
            tasks,
            helped: moka::sync::Cache::new(1000),
            login_backoff: LoginBackoff::new(clock.clone()),
            clock,
        }
    }

    /// The index of the rule for this repository. The most specific rule wins; among equals, the first.
    pub(in crate::upstream) fn credential_for(&self, repository: &Repository) -> Option<usize> {
        let specificity = |rule: &super::settings::CredentialRule| match &rule.pattern {
            None => Some(0),
            Some(pattern) => pattern.matches(repository).then(|| pattern.specificity() + 1),
        };
        let matching = self.settings.credentials.iter().enumerate();
        let rated = matching.filter_map(|(at, rule)| Some((specificity(rule)?, at)));
        rated.max_by_key(|&(rating, at)| (rating, std::cmp::Reverse(at))).map(|(_, at)| at)
    }

    /// The `Authorization` for a Basic challenge of the endpoint.
    pub(in crate::upstream) async fn basic(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
    ) -> Result<Option<Basic>, Failure> {
        let Some(login) = self.login(endpoint, self.credential_for(repository), repository.as_str()).await? else {
            return Ok(None);
        };
        let Some(header) = login.basic() else { return Ok(None) };
        let login = Fingerprint::of(&login);
        let permit = self.login_backoff.permit(login, repository.as_str()).await?;
        Ok(Some(Basic { header, login, _permit: permit }))
    }

    /// The `Authorization` for a Bearer challenge, from the cache or from the realm.
    pub(in crate::upstream) async fn bearer(
        self: &Arc<Self>,
        party: &Party,
        realm: &str,
        service: Option<&str>,
        repository: &Repository,
    ) -> Result<(Secret, TokenKey), Failure> {
        let credential = match party {
            Party::Endpoint(_) => self.credential_for(repository),
            Party::Target { .. } => None,
        };
        let realm = self.checked_realm(party, realm)?;
        let prefix = match party {
            Party::Endpoint(endpoint) => endpoint.repository_prefix(),
            Party::Target { .. } => String::new(),
        };
        let scope = match party {
            Party::Endpoint(_) => format!("repository:{prefix}{repository}:pull"),
            // The target's own name of the repository is in the redirect.
            Party::Target { url, .. } => {
                format!("repository:{}:pull", target_repository(url).unwrap_or(repository.as_str()))
            }
        };
        let key = TokenKey { realm, service: service.map(str::to_owned), scope, credential };
        let held = self.tokens.get(&key).filter(|token| self.clock.now() < token.expires);
        if let Some(token) = &held
            && self.clock.now() < token.ageing
        {
            return Ok((token.header.clone(), key));
        }
        let renew = self.renewal(party, &key);
        if let Some(token) = held {
            self.tokens.insert(key.clone(), Token { ageing: token.expires, ..token.clone() });
            let (auth, renewed) = (Arc::clone(self), key.clone());
            self.tasks.spawn(async move {
                // A failure is repeated, and reported, when the token has expired.
                let _failed = auth.renewals.run(renewed, renew).await;
            });
            return Ok((token.header, key));
        }
        let (token, _) =
            self.renewals.run(key.clone(), renew).await.map_err(|died| Failure::Broken(died.to_string()))?;
        Ok((token?.header, key))
    }

    fn renewal(
        self: &Arc<Self>,
        party: &Party,
        key: &TokenKey,
    ) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<Token, Failure>> + Send>> + Send + Sync + use<> {
        let (auth, party, key) = (Arc::clone(self), party.clone(), key.clone());
        move || {
            let (auth, party, key) = (Arc::clone(&auth), party.clone(), key.clone());
            Box::pin(async move {
                // A token server that answers slowly must not hold up later requests.
                let fetch = tokio::time::timeout(auth.settings.response_timeout, auth.fetch(&party, &key));
                let late = |_elapsed| Failure::Timeout("its token server did not answer");
                let token = fetch.await.map_err(late)??;
                auth.tokens.insert(key, token.clone());
                Ok(token)
            })
        }
    }

    /// Drops a token that was answered with 401, unless another request has renewed it since.
    pub(in crate::upstream) fn drop_token(&self, key: &TokenKey, header: &Secret) {
        if self.tokens.get(key).is_some_and(|token| token.header == *header) {
            self.tokens.invalidate(key);
        }
    }

    /// Checks the realm, for which an upstream may name any URL. Credentials go only to hosts that the operator allows
    /// (docs/SECURITY-THREATS.md, T2).
    fn checked_realm(&self, party: &Party, realm: &str) -> Result<Url, Failure> {
        let refused = |why: String| Err(Failure::Refused(why));
        let Ok(realm) = Url::parse(realm) else { return refused("its token server is not named by a URL".to_owned()) };
        let host = realm.host_str().unwrap_or_default();
        let listed = self.settings.token_hosts.iter().any(|listed| listed == host || *listed == host_port(&realm));
        if !(listed || party.url().host_str() == Some(host)) {
            return refused(format!("it names {host} as its token server; add it to `token_hosts` if that is right"));
        }
        if realm.scheme() != "https" && !(realm.scheme() == "http" && party.url().scheme() == "http") {
            return refused(format!("its token server {host} is not reached by https"));
        }
        if !realm.username().is_empty() || realm.password().is_some() {
            return refused("the URL of its token server holds a user name".to_owned());
        }
        Ok(realm)
    }

    async fn fetch(&self, party: &Party, key: &TokenKey) -> Result<Token, Failure> {
        let endpoint = party.endpoint();
        let login = self.login(endpoint, key.credential, &key.scope).await?;
        let fingerprint = login.as_ref().map(Fingerprint::of);
        let _permit = match fingerprint {
            Some(login) => Some(self.login_backoff.permit(login, &key.scope).await?),
            None => None,
        };
        let own = matches!(party, Party::Endpoint(_)) && same_origin(endpoint.origin(), &key.realm);
        let client = if own {
            self.clients.own(Lane::Manifests)
        } else {
            let host = key.realm.host_str().unwrap_or_default();
            let listed = self.settings.private_hosts.iter().any(|listed| listed == host);
            let reach = endpoint.foreign_reach(self.settings.public_only, listed);
            reach.check_literal(&key.realm).map_err(|blocked| Failure::Refused(blocked.to_string()))?;
            self.clients.foreign(Lane::Manifests, reach)
        };
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        parameters.extend(key.service.as_deref().map(|service| ("service", service)));
        parameters.push(("scope", &key.scope));
        let request = match &login {
            Some(Login::IdentityToken(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                    ("client_id", "roadstead"),
                ]);
                let form: String =
                    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
                client
                    .post(key.realm.clone())
                    .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form)
            }
            Some(Login::Password { username, password }) => {
                parameters.push(("account", username));
                let mut url = key.realm.clone();
                url.query_pairs_mut().extend_pairs(&parameters);
                client.get(url).basic_auth(username, Some(password.expose()))
            }
            None => {
                let mut url = key.realm.clone();
                url.query_pairs_mut().extend_pairs(&parameters);
                client.get(url)
            }
        };
        let method = if matches!(login, Some(Login::IdentityToken(_))) { "POST" } else { "GET" };
        let response = request.send().await.map_err(Failure::of_reqwest);
        self.count(method, &response);
        let response = response?;
        let status = response.status().as_u16();
        match (status, fingerprint) {
            (200, Some(login)) => self.login_backoff.worked(login, &key.scope),
            (200, None) => {}
            (400 | 401, Some(login)) => {
                self.login_backoff.refused(login);
                return Err(Failure::DeniedCredentials);
            }
            // gitlab.com and ghcr.io also use 403 for a single repository.
            (403, Some(login)) => {
                self.login_backoff.refused_here(login, &key.scope);
                return Err(Failure::DeniedCredentials);
            }
            (401 | 403, None) => return Err(Failure::DeniedAnonymous),
            (429, _) => {
                return Err(Failure::RateLimited { retry_after: body::retry_after(response.headers(), &self.clock) });
            }
            (500.., _) => return Err(Failure::ServerError(status)),
            _ => return Err(Failure::Refused(format!("its token server answered with status {status}"))),
        }
        let read = body::read_capped(response, MAX_TOKEN_BYTES, "", self.settings.idle_timeout).await;
        if let Err(Failure::TooLarge { .. }) = read {
            return Err(Failure::Refused("its token server sent more than 1 MiB".to_owned()));
        }
        let answer = TokenAnswer::read(&read?);
        let answer = answer.ok_or_else(|| Failure::Refused("its token server sent no usable token".to_owned()))?;
        let margin = (answer.life / 10).min(Duration::from_secs(30));
        let now = self.clock.now();
        let expires = now.plus(answer.life.saturating_sub(margin));
        let ageing = now.plus(answer.life.saturating_sub(margin.max(answer.life / 5)));
        Ok(Token { header: Secret::new(format!("Bearer {}", answer.token.expose())), ageing, expires })
    }

    /// The login of a credential. Files are read each time; a helper's answer is cached until it is refused in this scope.
    async fn login(
        &self,
        endpoint: &Endpoint,
        credential: Option<usize>,
        scope: &str,
    ) -> Result<Option<Login>, Failure> {
        let Some((at, rule)) = credential.and_then(|at| Some((at, self.settings.credentials.get(at)?))) else {
            return Ok(None);
        };
        let host = host_port(endpoint.origin());
        let key = (at, host.clone());
        if let Some((login, since)) = self.helped.get(&key)
            && self.clock.now().since(since) < HELPER_ANSWER_LIFE
            && self.login_backoff.check(Fingerprint::of(&login), scope).is_ok()
        {
            return Ok(Some(login));
        }
        let login = rule.source.login(&[&host, self.authority.as_str()]).await;
        let login = login.map_err(|err| Failure::Refused(format!("cannot be signed in to: {err}")))?;
        if let (Some(login), CredentialSource::Helper(_) | CredentialSource::DockerConfig(_)) = (&login, &rule.source) {
            self.helped.insert(key, (login.clone(), self.clock.now()));
        }
        Ok(login)
    }

    fn count(&self, method: &str, response: &Result<reqwest::Response, Failure>) {
        let status = response.as_ref().map_or_else(|_| "error".to_owned(), |r| r.status().as_u16().to_string());
        let labels = ByUpstreamRequest {
            authority: self.settings.name.clone(),
            kind: "token",
            method: method.to_owned(),
            status,
        };
        self.metrics.upstream_requests.get_or_create(&labels).inc();
    }
}

fn host_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The repository `a/b` of `/v2/a/b/manifests/x`.
fn target_repository(url: &Url) -> Option<&str> {
    let rest = url.path().strip_prefix("/v2/")?;
    let (rest, _reference) = rest.rsplit_once('/')?;
    rest.rsplit_once('/').map(|(repository, _kind)| repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_of_a_redirect_target_is_read_from_its_path() {
        let url: Url = "https://x.pkg.dev/v2/k8s/images/pause/blobs/sha256:00".parse().unwrap();
        assert_eq!(target_repository(&url), Some("k8s/images/pause"));
        assert_eq!(target_repository(&"https://cdn.test/x".parse().unwrap()), None);
    }
}
