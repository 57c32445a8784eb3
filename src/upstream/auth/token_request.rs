//! Requests a token from the realm of a Bearer challenge.

use std::time::Duration;

use http::Method;
use url::Url;

use super::credentials::Login;
use super::logins::Refusal;
use super::token::TokenAnswer;
use super::{Auth, Party, Token, TokenKey, host_port};
use crate::quote::quoted;
use crate::secret::Secret;
use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::clients::Pool;
use crate::upstream::endpoint::same_origin;
use crate::upstream::error::Failure;
use crate::upstream::redirect::{MAX_REDIRECTS, is_redirect, target};

/// Largest answer of a token server. A larger one is refused.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
/// Longest realm and longest service. They are kept with each token.
const MAX_CHALLENGE_BYTES: usize = 4 * 1024;

/// The answer of a token server to a request that it understood.
enum Told {
    Token(Token),
    /// 401 or 403; to a login, 400 too.
    Refused,
}

impl Auth {
    /// Checks the realm, for which an upstream may name any URL. Credentials go only to hosts that the operator allows
    /// (docs/SECURITY-THREATS.md, T2).
    pub(super) fn checked_realm(&self, party: &Party, realm: &str, service: Option<&str>) -> Result<Url, Failure> {
        let refused = |why: String| Err(Failure::Refused(why));
        if realm.len() > MAX_CHALLENGE_BYTES || service.is_some_and(|service| service.len() > MAX_CHALLENGE_BYTES) {
            return refused(format!("it names its token server in more than {MAX_CHALLENGE_BYTES} bytes"));
        }
        let Ok(realm) = Url::parse(realm) else { return refused("its token server is not named by a URL".to_owned()) };
        let host = realm.host_str().unwrap_or_default();
        if !(self.is_token_host(&realm) || party.url().host_str() == Some(host)) {
            let host = quoted(host);
            return refused(format!("it names {host} as its token server; add it to `token_hosts` if that is right"));
        }
        if realm.scheme() != "https" && !(realm.scheme() == "http" && party.url().scheme() == "http") {
            return refused(format!("its token server {} is not reached by https", quoted(host)));
        }
        if !realm.username().is_empty() || realm.password().is_some() {
            return refused("the URL of its token server holds a user name".to_owned());
        }
        Ok(realm)
    }

    /// Fetches a token, with the credentials of the key. A refusal is judged: `super::logins`.
    pub(super) async fn fetch(&self, party: &Party, key: &TokenKey) -> Result<Token, Failure> {
        let (endpoint, realm, scope) = (party.endpoint(), &key.realm, key.scope.as_str());
        let Some(tried) = self.begin_login(endpoint, key.credential, realm, scope).await? else {
            return match self.ask_for_token(party, key, Some(scope), None).await? {
                Told::Token(token) => Ok(token),
                Told::Refused => Err(Failure::DeniedAnonymous),
            };
        };
        self.prove_first(&tried, self.accepts(party, key, &tried.login)).await?;
        if let Told::Token(token) = self.ask_for_token(party, key, Some(scope), Some(&tried.login)).await? {
            self.worked(&tried, Some(scope));
            return Ok(token);
        }
        let (tried, is_new) = self.renewed(endpoint, tried, realm, scope).await?;
        if is_new && let Told::Token(token) = self.ask_for_token(party, key, Some(scope), Some(&tried.login)).await? {
            self.worked(&tried, Some(scope));
            return Ok(token);
        }
        let login = tried.login.clone();
        // gitlab.com and ghcr.io answer 403 for a wrong login and for a single repository alike.
        let refusal = Refusal { scope, blames_login: true, closes_scope: true };
        Err(self.judge(tried, refusal, self.accepts(party, key, &login)).await)
    }

    /// Whether the token server gives a token without a scope for a login.
    async fn accepts(&self, party: &Party, key: &TokenKey, login: &Login) -> Result<bool, Failure> {
        let told = self.ask_for_token(party, key, None, Some(login)).await?;
        Ok(matches!(told, Told::Token(_)))
    }

    /// Asks for a token. Redirects are followed within the realm's origin and to `token_hosts`, by the same method and with
    /// the same credentials.
    async fn ask_for_token(
        &self,
        party: &Party,
        key: &TokenKey,
        scope: Option<&str>,
        login: Option<&Login>,
    ) -> Result<Told, Failure> {
        let form = Form::of(key, scope, login);
        let mut url = form.url(&key.realm);
        for _hop in 0..=MAX_REDIRECTS {
            let client = self.client_for(party, &url)?;
            let response = client.send(form.request(client, &url)).await;
            self.count("token", form.method(), &response);
            let response = response?;
            if !is_redirect(response.status()) {
                return self.read_token(response, login.is_some()).await;
            }
            // 301, 302 and 303 would turn it into a GET without the token that it is for.
            if form.method() == "POST" && !matches!(response.status().as_u16(), 307 | 308) {
                return Err(Failure::Refused("its token server redirects a POST to a GET".to_owned()));
            }
            let to = target(&url, response.headers())?;
            if !(same_origin(&to, &key.realm) || self.is_token_host(&to)) {
                let host = quoted(to.host_str().unwrap_or_default());
                let advice = "add it to `token_hosts` if that is right";
                return Err(Failure::Refused(format!("its token server redirects to {host}; {advice}")));
            }
            url = to;
        }
        Err(Failure::Refused(format!("its token server redirects more than {MAX_REDIRECTS} times")))
    }

    async fn read_token(&self, response: reqwest::Response, with_login: bool) -> Result<Told, Failure> {
        match response.status().as_u16() {
            200 => {}
            400 if with_login => return Ok(Told::Refused),
            401 | 403 => return Ok(Told::Refused),
            429 => {
                return Err(Failure::RateLimited { retry_after: body::retry_after(response.headers(), &self.clock) });
            }
            status @ 500.. => return Err(Failure::ServerError(status)),
            status => return Err(Failure::Refused(format!("its token server answered with status {status}"))),
        }
        let read = body::read_capped(response, MAX_ANSWER_BYTES, "", self.settings.idle_timeout, &self.rooms).await;
        if let Err(Failure::TooLarge { .. }) = read {
            return Err(Failure::Refused("its token server sent more than 1 MiB".to_owned()));
        }
        let answer = TokenAnswer::read(&read?.bytes);
        let answer = answer.ok_or_else(|| Failure::Refused("its token server sent no usable token".to_owned()))?;
        let margin = (answer.life / 10).min(Duration::from_secs(30));
        let now = self.clock.now();
        let expires = now.plus(answer.life.saturating_sub(margin));
        let ageing = now.plus(answer.life.saturating_sub(margin.max(answer.life / 5)));
        Ok(Told::Token(Token { header: Secret::new(format!("Bearer {}", answer.token.expose())), ageing, expires }))
    }

    fn is_token_host(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        self.settings.token_hosts.iter().any(|listed| listed == host || *listed == host_port(url))
    }

    /// The endpoint's own client for its own origin; else one that may dial only where a redirect may lead.
    fn client_for(&self, party: &Party, realm: &Url) -> Result<&Pool, Failure> {
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
}

/// A request for a token: a POST with an identity token; else a GET, with a password or anonymous.
struct Form<'a> {
    parameters: Vec<(&'static str, &'a str)>,
    login: Option<&'a Login>,
}

impl<'a> Form<'a> {
    fn of(key: &'a TokenKey, scope: Option<&'a str>, login: Option<&'a Login>) -> Self {
        let service = key.service.as_deref().map(|service| ("service", service));
        let mut parameters: Vec<_> = service.into_iter().chain(scope.map(|scope| ("scope", scope))).collect();
        match login {
            Some(Login::IdentityToken(token)) => parameters.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token.expose()),
                ("client_id", "roadstead"),
            ]),
            Some(Login::Password { username, .. }) => parameters.push(("account", username)),
            None => {}
        }
        Self { parameters, login }
    }

    const fn method(&self) -> &'static str {
        match self.login {
            Some(Login::IdentityToken(_)) => "POST",
            Some(Login::Password { .. }) | None => "GET",
        }
    }

    /// The first URL that is asked. A redirect names the whole URL of the next.
    fn url(&self, realm: &Url) -> Url {
        let mut url = realm.clone();
        if self.method() == "GET" {
            url.query_pairs_mut().extend_pairs(&self.parameters);
        }
        url
    }

    fn request(&self, client: &Pool, url: &Url) -> reqwest::RequestBuilder {
        match self.login {
            Some(Login::IdentityToken(_)) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                client
                    .request(Method::POST, url.clone())
                    .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.extend_pairs(&self.parameters).finish())
            }
            Some(Login::Password { username, password }) => {
                client.request(Method::GET, url.clone()).basic_auth(username, Some(password.expose()))
            }
            None => client.request(Method::GET, url.clone()),
        }
    }
}
