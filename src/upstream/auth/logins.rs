//! Which login a request gets, and what it means that it is refused.

use std::sync::Arc;
use std::time::Duration;

use super::cloud::CloudIdentity;
use super::cloud::tokens::CloudTokens;
use super::credentials::Login;
use super::login_backoff::{Fingerprint, LoginPermit};
use super::{Auth, host_port};
use crate::metrics::ByUpstreamRequest;
use crate::oci::Repository;
use crate::secret::Secret;
use crate::upstream::body;
use crate::upstream::breaker::Lane;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;
use crate::upstream::settings::{CredentialRule, CredentialSource};

use url::Url;

/// How long a helper's answer is used before the helper runs again, unless the answer is refused earlier.
const HELPER_ANSWER_LIFE: Duration = Duration::from_mins(1);

/// A login that is tried at one server. Its permit is held until the answer is judged.
#[derive(Debug)]
pub(super) struct Tried {
    /// Index of the credential rule.
    rule: usize,
    pub(super) login: Login,
    fingerprint: Fingerprint,
    permit: LoginPermit,
}

/// A Basic login for one request.
#[derive(Debug)]
pub(super) struct Basic {
    pub(super) header: Secret,
    pub(super) tried: Tried,
}

/// What is told by the refusal of a login for one scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal<'s> {
    pub(super) scope: &'s str,
    /// A login that never worked counts as wrong. Else it is tried without a scope.
    pub(super) blames_login: bool,
    /// A right login is not tried in this scope for a while.
    pub(super) closes_scope: bool,
}

impl Auth {
    /// The index of the rule for this repository. The most specific rule wins; among equals, the first.
    pub(in crate::upstream) fn credential_for(&self, repository: &Repository) -> Option<usize> {
        let specificity = |rule: &CredentialRule| match &rule.pattern {
            None => Some(0),
            Some(pattern) => pattern.matches(repository).then(|| pattern.specificity() + 1),
        };
        let matching = self.settings.credentials.iter().enumerate();
        let rated = matching.filter_map(|(at, rule)| Some((specificity(rule)?, at)));
        rated.max_by_key(|&(rating, at)| (rating, std::cmp::Reverse(at))).map(|(_, at)| at)
    }

    /// The `Authorization` for a Basic challenge of the endpoint; `None` without credentials for it.
    pub(super) async fn basic(&self, endpoint: &Endpoint, repository: &Repository) -> Result<Option<Basic>, Failure> {
        let (rule, scope) = (self.credential_for(repository), repository.as_str());
        let Some(tried) = self.begin_login(endpoint, rule, endpoint.origin(), scope).await? else { return Ok(None) };
        let Some(header) = tried.login.basic() else { return Ok(None) };
        self.prove_first(&tried, self.accepts_basic(endpoint, &header)).await?;
        Ok(Some(Basic { header, tried }))
    }

    /// The credentials of a rule, with the permit to try them. `None` is anonymous. `server` judges them.
    pub(super) async fn begin_login(
        &self,
        endpoint: &Endpoint,
        rule: Option<usize>,
        server: &Url,
        scope: &str,
    ) -> Result<Option<Tried>, Failure> {
        let Some(rule) = rule else { return Ok(None) };
        let Some(login) = self.login(endpoint, rule, server, scope).await? else { return Ok(None) };
        let fingerprint = self.fingerprint(rule, &login, server);
        let permit = self.login_backoff.permit(fingerprint, scope).await?;
        Ok(Some(Tried { rule, login, fingerprint, permit }))
    }

    /// Tries a login without a scope if that has to come first. `accepts` does it.
    pub(super) async fn prove_first(
        &self,
        tried: &Tried,
        accepts: impl Future<Output = Result<bool, Failure>>,
    ) -> Result<(), Failure> {
        if !tried.permit.judge_first {
            return Ok(());
        }
        if !accepts.await? {
            return Err(self.refuse(tried, false));
        }
        self.worked(tried, None);
        Ok(())
    }

    /// Records that the login has worked: in a scope, or without one.
    pub(super) fn worked(&self, tried: &Tried, scope: Option<&str>) {
        self.login_backoff.worked(tried.fingerprint, scope);
        self.refused_logins.accept(tried.rule);
        self.show_refused_login();
    }

    /// Another login in place of a refused one, if the file or the helper has changed meanwhile; else the same.
    pub(super) async fn renewed(
        &self,
        endpoint: &Endpoint,
        tried: Tried,
        server: &Url,
        scope: &str,
    ) -> Result<(Tried, bool), Failure> {
        let rule = tried.rule;
        self.helped.invalidate(&(rule, host_port(endpoint.origin())));
        if let (Some((cloud, identity)), Login::Password { password, .. }) = (self.cloud_of(rule), &tried.login) {
            let host = host_port(endpoint.origin());
            cloud.drop_refused(identity, endpoint.origin(), &[&host, self.authority.as_str()], password);
        }
        match self.login(endpoint, rule, server, scope).await? {
            Some(login) if login != tried.login => {}
            Some(_) | None => return Ok((tried, false)),
        }
        // Its permit would be waited for.
        drop(tried);
        let anonymous = || Failure::Refused("cannot be signed in to: its credentials have gone".to_owned());
        let renewed = self.begin_login(endpoint, Some(rule), server, scope).await?;
        Ok((renewed.ok_or_else(anonymous)?, true))
    }

    /// Whether a refused login is wrong, or right and closed to this scope. Only the second is a denial. `accepts` tries it
    /// without a scope.
    pub(super) async fn judge(
        &self,
        tried: Tried,
        refusal: Refusal<'_>,
        accepts: impl Future<Output = Result<bool, Failure>>,
    ) -> Failure {
        let Refusal { scope, blames_login, closes_scope } = refusal;
        if blames_login && !self.login_backoff.is_good(tried.fingerprint) {
            return self.refuse(&tried, true);
        }
        // A password that has changed is tried by one of all the requests that it was refused to.
        let _alone = if tried.permit.is_alone() { None } else { Some(self.login_backoff.alone().await) };
        if let Some(known) = self.login_backoff.judgement(tried.fingerprint, scope) {
            return known;
        }
        match accepts.await {
            Ok(true) => {
                self.worked(&tried, None);
                if closes_scope {
                    self.login_backoff.refused_here(tried.fingerprint, scope);
                }
                Failure::DeniedCredentials
            }
            Ok(false) => self.refuse(&tried, false),
            Err(failure) => failure,
        }
    }

    fn refuse(&self, tried: &Tried, for_a_scope: bool) -> Failure {
        self.login_backoff.refused(tried.fingerprint, for_a_scope);
        if let Some(rule) = self.settings.credentials.get(tried.rule) {
            self.refused_logins.refuse(tried.rule, &rule.source, tried.fingerprint.login(), self.clock.now());
        }
        self.show_refused_login();
        Failure::LoginRefused
    }

    /// Whether the endpoint accepts a Basic login at `/v2/`.
    pub(super) async fn accepts_basic(&self, endpoint: &Endpoint, header: &Secret) -> Result<bool, Failure> {
        let response = self.ping(endpoint, Some(header)).await?;
        match response.status().as_u16() {
            401 | 403 => Ok(false),
            429 => Err(Failure::RateLimited { retry_after: body::retry_after(response.headers(), &self.clock) }),
            status @ 500.. => Err(Failure::ServerError(status)),
            _ => Ok(true),
        }
    }

    /// GET of `/v2/`, as clients begin with.
    pub(super) async fn ping(
        &self,
        endpoint: &Endpoint,
        authorization: Option<&Secret>,
    ) -> Result<reqwest::Response, Failure> {
        let client = self.clients.own(Lane::Manifests);
        let mut request = client.request(http::Method::GET, endpoint.ping_url());
        request = request.header(http::header::USER_AGENT, concat!("roadstead/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = authorization {
            let value = http::HeaderValue::from_str(authorization.expose());
            let mut value = value.map_err(|_invalid| Failure::unsendable_credentials())?;
            value.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, value);
        }
        let response = client.send(request).await;
        self.count("ping", "GET", &response);
        response
    }

    pub(super) fn count(&self, kind: &'static str, method: &str, response: &Result<reqwest::Response, Failure>) {
        let status = response.as_ref().map_or_else(|_| "error".to_owned(), |r| r.status().as_u16().to_string());
        let authority = self.settings.name.clone();
        let labels = ByUpstreamRequest { authority, kind, method: method.to_owned(), status };
        self.metrics.upstream_requests.get_or_create(&labels).inc();
    }

    /// What identifies a login that is tried. One of a cloud is renewed by itself: its identity stays.
    fn fingerprint(&self, rule: usize, login: &Login, server: &Url) -> Fingerprint {
        match self.cloud_of(rule) {
            Some((_, identity)) => Fingerprint::of_identity(identity.name(), server),
            None => Fingerprint::of(login, server),
        }
    }

    /// The identity of a cloud that a rule names, and its logins.
    fn cloud_of(&self, rule: usize) -> Option<(&Arc<CloudTokens>, &CloudIdentity)> {
        match &self.settings.credentials.get(rule)?.source {
            CredentialSource::Cloud(identity) => Some((self.cloud.as_ref()?, identity)),
            CredentialSource::PasswordFile { .. } | CredentialSource::DockerConfig(_) | CredentialSource::Helper(_) => {
                None
            }
        }
    }

    /// The login of a rule. Files are read each time; a helper's answer is cached until it is refused in this scope.
    async fn login(
        &self,
        endpoint: &Endpoint,
        rule: usize,
        server: &Url,
        scope: &str,
    ) -> Result<Option<Login>, Failure> {
        let Some(source) = self.settings.credentials.get(rule).map(|rule| &rule.source) else { return Ok(None) };
        let host = host_port(endpoint.origin());
        if let Some((cloud, identity)) = self.cloud_of(rule) {
            let login = cloud.login(identity, endpoint.origin(), &[&host, self.authority.as_str()]).await;
            let (username, password) =
                login.map_err(|err| Failure::Refused(format!("cannot be signed in to: {err}")))?;
            return Ok(Some(Login::Password { username, password }));
        }
        let key = (rule, host.clone());
        if let Some((login, since)) = self.helped.get(&key)
            && self.clock.now().since(since) < HELPER_ANSWER_LIFE
            && self.login_backoff.check(Fingerprint::of(&login, server), scope).is_ok()
        {
            return Ok(Some(login));
        }
        let login = source.login(&[&host, self.authority.as_str()]).await;
        let login = login.map_err(|err| Failure::Refused(format!("cannot be signed in to: {err}")))?;
        if let (Some(login), CredentialSource::Helper(_) | CredentialSource::DockerConfig(_)) = (&login, source) {
            self.helped.insert(key, (login.clone(), self.clock.now()));
        }
        Ok(login)
    }
}
