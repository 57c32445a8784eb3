//! Requests a token from the realm of a Bearer challenge.

use std::time::Duration;

use url::Url;

use super::credentials::Login;
use super::login_backoff::Fingerprint;
use super::token::TokenAnswer;
use super::{Auth, Party, Token, TokenKey, host_port};
use crate::metrics::ByUpstreamRequest;
use crate::secret::Secret;
use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::endpoint::same_origin;
use crate::upstream::error::Failure;

/// Largest answer of a token server. A larger one is refused.
const MAX_TOKEN_BYTES: u64 = 1024 * 1024;

impl Auth {
    /// Checks the realm, for which an upstream may name any URL. Credentials go only to hosts that the operator allows
    /// (docs/SECURITY-THREATS.md, T2).
    pub(super) fn checked_realm(&self, party: &Party, realm: &str) -> Result<Url, Failure> {
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

    /// Fetches a token, with the credentials of the key. A refusal is remembered in the login backoff.
    pub(super) async fn fetch(&self, party: &Party, key: &TokenKey) -> Result<Token, Failure> {
        let endpoint = party.endpoint();
        let login = self.login(endpoint, key.credential, &key.scope).await?;
        let fingerprint = login.as_ref().map(Fingerprint::of);
        let _permit = match fingerprint {
            Some(login) => Some(self.login_backoff.permit(login, &key.scope).await?),
            None => None,
        };
        let client = self.client_for(party, &key.realm)?;
        let request = request(client, key, login.as_ref());
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

    /// The endpoint's own client for its own origin; else one that may dial only where a redirect may lead.
    fn client_for(&self, party: &Party, realm: &Url) -> Result<&reqwest::Client, Failure> {
        let endpoint = party.endpoint();
        let own = matches!(party, Party::Endpoint(_)) && same_origin(endpoint.origin(), realm);
        if own {
            return Ok(self.clients.own(Lane::Manifests));
        }
        let host = realm.host_str().unwrap_or_default();
        let listed = self.settings.private_hosts.iter().any(|listed| listed == host);
        let reach = endpoint.foreign_reach(self.settings.public_only, listed);
        reach.check_literal(realm).map_err(|blocked| Failure::Refused(blocked.to_string()))?;
        Ok(self.clients.foreign(Lane::Manifests, reach))
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

/// A POST with an identity token; else a GET, with a password or anonymous.
fn request(client: &reqwest::Client, key: &TokenKey, login: Option<&Login>) -> reqwest::RequestBuilder {
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    parameters.extend(key.service.as_deref().map(|service| ("service", service)));
    parameters.push(("scope", &key.scope));
    match login {
        Some(Login::IdentityToken(token)) => {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token.expose()),
                ("client_id", "roadstead"),
            ]);
            let form: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
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
    }
}
