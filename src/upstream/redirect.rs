//! Follows redirects.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::quote::quoted;

use super::auth::Party;
use super::auth::challenge::Challenge;
use super::auth::sign_in::challenge_in;
use super::endpoint::{Endpoint, same_origin};
use super::error::Failure;
use super::request::{Answered, By, Fault, Kind, Question, Requests};

/// Most redirects that are followed. RFC 9110 recommends a limit against loops.
pub(super) const MAX_REDIRECTS: usize = 5;

impl Requests<'_> {
    /// Follows redirects by hand: `Authorization`, client certificate and skip-verify stay with the endpoint's origin,
    /// https never turns into http, and public endpoints cannot lead to private addresses
    /// (docs/SECURITY-THREATS.md, T3 and T4).
    pub(super) async fn follow(
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
}

pub(super) const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads: not to a URL with a user name, and from https to https only.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| Failure::Refused("a redirect without a usable Location".to_owned()))?;
    if !to.username().is_empty() || to.password().is_some() {
        return Err(Failure::Refused("a redirect to a URL with a user name".to_owned()));
    }
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        (_, scheme) => Err(Failure::Refused(format!("a redirect from {} to {}", from.scheme(), quoted(scheme)))),
    }
}
