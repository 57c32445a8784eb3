//! Asks an endpoint with the credentials that it wants: by the challenge that was answered before in this repository, then by
//! that of its answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::challenge::Challenge;
use super::logins::{Basic, Refusal, Tried};
use super::{Auth, Party, TokenKey};
use crate::secret::Secret;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;
use crate::upstream::request::{Answered, By, Question, Requests};

/// Longest wait for the answer of `/v2/`. The answer that it should explain is there already.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The authentication of a request.
enum Signature {
    None,
    Basic(Basic),
    Bearer { header: Secret, key: TokenKey },
}

/// The answer to a signed request.
enum Sent {
    Accepted(Answered),
    /// 401, and the challenge that came with it.
    Refused(Answered, Option<Challenge>),
}

/// One request to one endpoint.
struct SignIn<'r> {
    requests: &'r Requests<'r>,
    auth: &'r Arc<Auth>,
    endpoint: &'r Arc<Endpoint>,
    question: &'r Question,
    url: Url,
}

impl Requests<'_> {
    /// Asks the endpoint itself. A resource is asked for at most three times: by what is known, by the endpoint's new
    /// challenge, and again by what is known.
    pub(in crate::upstream) async fn ask_endpoint(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        url: Url,
    ) -> Result<Answered, Failure> {
        let sign_in = SignIn { requests: self, auth: &self.client.auth, endpoint, question, url };
        match endpoint.challenges.of(&question.repository) {
            Some(known) => sign_in.by_known(known).await,
            None => sign_in.unsigned(None).await,
        }
    }
}

impl SignIn<'_> {
    async fn by_known(&self, known: Challenge) -> Result<Answered, Failure> {
        let signature = match self.sign(&known).await {
            Ok(Signature::None) => return self.unsigned(None).await,
            Ok(signature) => signature,
            // These say nothing about the challenge.
            Err(failure @ (Failure::LockedOut | Failure::RateLimited { .. } | Failure::NoDescriptors)) => {
                return Err(failure);
            }
            Err(failure) => {
                self.forget();
                if failure == Failure::LoginRefused && matches!(known, Challenge::Bearer { .. }) {
                    self.endpoint.challenges.forget_everywhere(&known);
                }
                // No time is left to ask anybody else.
                if matches!(failure, Failure::Timeout(_)) {
                    return Err(failure);
                }
                // The endpoint may name another token server by now. Its word counts before a denial is believed.
                return self.unsigned(Some((known, failure))).await;
            }
        };
        let is_token = matches!(signature, Signature::Bearer { .. });
        let (refused, offered) = match self.send(signature).await? {
            Sent::Accepted(answered) => return Ok(answered),
            Sent::Refused(answered, offered) => (answered, offered),
        };
        // Some registries answer an expired token without a challenge or with a wrong realm: the known one comes last.
        let fresh = offered.filter(|offered| *offered != known);
        let challenges = fresh.into_iter().chain(is_token.then_some(known)).collect();
        self.by_first_accepted(challenges, refused).await
    }

    /// Asks without credentials. `before` is a challenge that could not be answered just now, and why.
    async fn unsigned(&self, before: Option<(Challenge, Failure)>) -> Result<Answered, Failure> {
        let response = self.ask(None).await?;
        let status = response.status();
        let offered = challenge_in(response.headers()).filter(|_| status == StatusCode::UNAUTHORIZED);
        let answered = Answered { response, by: By::Endpoint { signed_in: false } };
        let has_login = self.auth.credential_for(&self.question.repository).is_some();
        let may_be_hidden = has_login && matches!(status.as_u16(), 401 | 403 | 404);
        match (offered, before) {
            (Some(offered), Some((known, failure))) if offered == known => Err(failure),
            (Some(offered), _) => self.by_first_accepted(vec![offered], answered).await,
            (None, Some((_, failure))) if may_be_hidden || status == StatusCode::UNAUTHORIZED => Err(failure),
            // Some registries say how to sign in at `/v2/` only.
            (None, None) if may_be_hidden => match self.challenge_of_ping().await {
                Some(challenge) => self.by_first_accepted(vec![challenge], answered).await,
                None => Ok(answered),
            },
            (None, _) => Ok(answered),
        }
    }

    /// Signs in by one challenge after the other until one is accepted, and remembers that. Else the outcome of the last one
    /// counts; `refused` if none could be tried.
    async fn by_first_accepted(&self, challenges: Vec<Challenge>, refused: Answered) -> Result<Answered, Failure> {
        let mut outcome = Ok(refused);
        for challenge in challenges {
            let sent = match self.sign(&challenge).await {
                Ok(Signature::None) => continue,
                Ok(signature) => self.send(signature).await,
                Err(failure) => Err(failure),
            };
            outcome = match sent {
                Ok(Sent::Accepted(answered)) => {
                    self.endpoint.challenges.remember(&self.question.repository, challenge);
                    return Ok(answered);
                }
                Ok(Sent::Refused(answered, _)) => Ok(answered),
                Err(failure) => Err(failure),
            };
        }
        self.forget();
        outcome
    }

    fn forget(&self) {
        self.endpoint.challenges.forget(&self.question.repository);
    }

    async fn sign(&self, challenge: &Challenge) -> Result<Signature, Failure> {
        let repository = &self.question.repository;
        match challenge {
            Challenge::Basic => {
                let basic = self.auth.basic(self.endpoint, repository).await?;
                Ok(basic.map_or(Signature::None, Signature::Basic))
            }
            Challenge::Bearer { realm, service } => {
                let party = Party::Endpoint(Arc::clone(self.endpoint));
                let (header, key) = self.auth.bearer(&party, realm, service.as_deref(), repository).await?;
                Ok(Signature::Bearer { header, key })
            }
        }
    }

    async fn ask(&self, authorization: Option<&Secret>) -> Result<reqwest::Response, Failure> {
        let client = self.requests.client.clients.own(self.question.kind.lane());
        let response = self.requests.send(client, self.question, self.url.clone(), authorization).await?;
        self.requests.saw(self.endpoint, &response);
        Ok(response)
    }

    async fn send(&self, signature: Signature) -> Result<Sent, Failure> {
        match signature {
            Signature::None => self.ask(None).await.map(|response| sent(response, false)),
            Signature::Bearer { header, key } => {
                let response = self.ask(Some(&header)).await?;
                if response.status() == StatusCode::UNAUTHORIZED {
                    self.auth.drop_token(&key, &header);
                }
                Ok(sent(response, key.is_login()))
            }
            Signature::Basic(basic) => self.send_basic(basic).await,
        }
    }

    /// A refused Basic login is judged: a wrong one proves nothing about the repository.
    async fn send_basic(&self, basic: Basic) -> Result<Sent, Failure> {
        let (endpoint, scope) = (self.endpoint, self.question.repository.as_str());
        let response = self.ask(Some(&basic.header)).await?;
        let mut status = response.status();
        if !self.refuses_login(status) {
            self.note_success(&basic.tried, status);
            return Ok(sent(response, true));
        }
        if let Some(Challenge::Bearer { .. }) = challenge_in(response.headers())
            && status == StatusCode::UNAUTHORIZED
        {
            // It wants Bearer now, which does not mean that the password is wrong.
            return Ok(sent(response, true));
        }
        let (tried, is_new) = self.auth.renewed(endpoint, basic.tried, endpoint.origin(), scope).await?;
        let Some(header) = tried.login.basic() else { return Ok(sent(response, true)) };
        if is_new {
            let response = self.ask(Some(&header)).await?;
            status = response.status();
            if !self.refuses_login(status) {
                self.note_success(&tried, status);
                return Ok(sent(response, true));
            }
        }
        let is_401 = status == StatusCode::UNAUTHORIZED;
        let refusal = Refusal { scope, blames_login: is_401, closes_scope: is_401 };
        Err(self.auth.judge(tried, refusal, self.auth.accepts_basic(endpoint, &header)).await)
    }

    /// Some registries answer a login that has expired with 403. A 403 to HEAD says nothing: it is asked again by GET.
    fn refuses_login(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && self.question.method != Method::HEAD)
    }

    fn note_success(&self, tried: &Tried, status: StatusCode) {
        if status != StatusCode::FORBIDDEN {
            self.auth.worked(tried, Some(self.question.repository.as_str()));
        }
    }

    /// The challenge of `/v2/`, asked at most once in a while.
    async fn challenge_of_ping(&self) -> Option<Challenge> {
        if let Some(known) = self.endpoint.challenges.of_ping() {
            return known.into();
        }
        let ping = tokio::time::timeout(PING_TIMEOUT, self.auth.ping(self.endpoint, None)).await;
        let challenge = ping.ok().and_then(Result::ok).and_then(|response| challenge_in(response.headers()));
        self.endpoint.challenges.remember_ping(challenge.clone().into());
        challenge
    }
}

fn sent(response: reqwest::Response, signed_in: bool) -> Sent {
    let offered = challenge_in(response.headers());
    let is_refused = response.status() == StatusCode::UNAUTHORIZED;
    let answered = Answered { response, by: By::Endpoint { signed_in } };
    if is_refused { Sent::Refused(answered, offered) } else { Sent::Accepted(answered) }
}

pub(in crate::upstream) fn challenge_in(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::parse(&values.collect::<Vec<_>>().join(", "))
}
