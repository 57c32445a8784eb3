//! Authentication by Bearer tokens and Basic (distribution, `docs/content/spec/auth/token.md`).
//!
//! Tokens are cached per realm, service, scope and credential until shortly before they expire. One request at a time
//! renews each. A refused login is not repeated for a while, unless the credentials have changed. It proves nothing about a
//! repository: only an answer to a right login does.

pub(in crate::upstream) mod challenge;
pub(in crate::upstream) mod cloud;
mod credentials;
pub(in crate::upstream) mod known_challenges;
mod login_backoff;
mod logins;
mod refused_logins;
pub(in crate::upstream) mod sign_in;
mod token;
mod token_request;

pub use challenge::Challenge;
pub use refused_logins::RefusedLogin;
pub use token::TokenAnswer;

use std::pin::Pin;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::metrics::{ByTrouble, Metrics};
use crate::oci::{Authority, Repository};
use crate::secret::Secret;

use crate::upstream::Context;
use crate::upstream::body::Rooms;
use crate::upstream::clients::Clients;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;
use crate::upstream::settings::UpstreamSettings;
use cloud::tokens::CloudTokens;
use credentials::Login;
use login_backoff::LoginBackoff;
use refused_logins::RefusedLogins;

/// Bytes that the tokens of one registry take together, keys included: thousands of usual ones. Those used least go.
const MAX_TOKEN_CACHE_BYTES: u64 = 8 * 1024 * 1024;

pub(in crate::upstream) struct Auth {
    settings: Arc<UpstreamSettings>,
    authority: Authority,
    clients: Arc<Clients>,
    clock: Clock,
    metrics: Metrics,
    tokens: moka::sync::Cache<TokenKey, Token>,
    renewals: Coalesce<TokenKey, Result<Token, Failure>>,
    tasks: TaskTracker,
    /// For long answers of token servers.
    rooms: Rooms,
    /// Logins from helper programs, by credential and host.
    helped: moka::sync::Cache<(usize, String), (Login, Timestamp)>,
    /// Logins of identities of clouds, if there are any.
    cloud: Option<Arc<CloudTokens>>,
    login_backoff: LoginBackoff,
    refused_logins: RefusedLogins,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct TokenKey {
    realm: Url,
    service: Option<String>,
    scope: String,
    /// Index of the credential rule; `None` is anonymous.
    credential: Option<usize>,
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
        cloud: Option<Arc<CloudTokens>>,
        context: &Context,
    ) -> Self {
        let (clock, tasks) = (context.clock.clone(), context.tasks.clone());
        Self {
            settings,
            refused_logins: RefusedLogins::new(authority.clone(), context.health.clone()),
            authority,
            clients,
            metrics: context.metrics.clone(),
            tokens: token_cache(),
            renewals: Coalesce::new(tasks.clone()),
            tasks,
            rooms: Rooms::default(),
            helped: moka::sync::Cache::new(1000),
            cloud,
            login_backoff: LoginBackoff::new(clock.clone()),
            clock,
        }
    }

    /// The credentials that the registry refuses now.
    pub(in crate::upstream) fn refused_login(&self) -> Option<RefusedLogin> {
        self.refused_logins.first()
    }

    /// Shows in metrics whether a login is refused. Registries that a wildcard admits have none: clients choose their names.
    fn show_refused_login(&self) {
        if self.settings.endpoints.is_empty() {
            return;
        }
        let (authority, endpoint) = (self.settings.name.clone(), self.authority.to_string());
        let labels = ByTrouble { authority, endpoint, trouble: "login_refused" };
        self.metrics.upstream_trouble.get_or_create(&labels).set(i64::from(self.refused_logins.first().is_some()));
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
        let realm = self.checked_realm(party, realm, service)?;
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
}

fn token_cache() -> moka::sync::Cache<TokenKey, Token> {
    moka::sync::Cache::builder().max_capacity(MAX_TOKEN_CACHE_BYTES).weigher(token_bytes).build()
}

/// Bytes of a token and its key.
fn token_bytes(key: &TokenKey, token: &Token) -> u32 {
    let service = key.service.as_ref().map_or(0, String::len);
    let text = key.realm.as_str().len() + service + key.scope.len() + token.header.expose().len();
    u32::try_from(size_of::<(TokenKey, Token)>() + text).unwrap_or(u32::MAX)
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
    fn t43_tokens_of_made_up_repositories_take_bounded_memory() {
        let tokens = token_cache();
        let realm: Url = "https://auth.test/token".parse().unwrap();
        let token = Token {
            header: Secret::new("t".repeat(64 * 1024)),
            ageing: Timestamp::default(),
            expires: Timestamp::default(),
        };
        for n in 0..1000 {
            let scope = format!("repository:org/app{n}:pull");
            tokens.insert(TokenKey { realm: realm.clone(), service: None, scope, credential: None }, token.clone());
        }
        tokens.run_pending_tasks();
        assert!(tokens.weighted_size() <= MAX_TOKEN_CACHE_BYTES);
        assert!(tokens.entry_count() > 100, "usual tokens fit by the thousand");
    }

    #[test]
    fn the_repository_of_a_redirect_target_is_read_from_its_path() {
        let url: Url = "https://x.pkg.dev/v2/k8s/images/pause/blobs/sha256:00".parse().unwrap();
        assert_eq!(target_repository(&url), Some("k8s/images/pause"));
        assert_eq!(target_repository(&"https://cdn.test/x".parse().unwrap()), None);
    }
}
