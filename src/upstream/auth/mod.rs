//! Authentication by Bearer tokens and Basic (distribution, `docs/content/spec/auth/token.md`).
//!
//! Tokens are cached per realm, service, scope and credential until shortly before they expire. One request at a time
//! renews each. A refused login is not repeated for a while, unless the credentials have changed.

pub(in crate::upstream) mod challenge;
mod credentials;
mod login_backoff;
pub(in crate::upstream) mod sign_in;
mod token;
mod token_request;

pub use challenge::Challenge;
pub use token::TokenAnswer;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::metrics::Metrics;
use crate::oci::{Authority, Repository};
use crate::secret::Secret;

use crate::upstream::Context;
use crate::upstream::clients::Clients;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;
use crate::upstream::settings::{CredentialSource, UpstreamSettings};
use credentials::Login;
use login_backoff::{Fingerprint, LoginBackoff, LoginPermit};

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
        context: &Context,
    ) -> Self {
        let (clock, tasks) = (context.clock.clone(), context.tasks.clone());
        Self {
            settings,
            authority,
            clients,
            metrics: context.metrics.clone(),
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
