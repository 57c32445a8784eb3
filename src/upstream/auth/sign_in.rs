//! Asks an endpoint with the credentials that it wants: by its last known challenge, then by that of its answer.

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::challenge::Challenge;
use super::{Basic, Party, TokenKey};
use crate::secret::Secret;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::Failure;
use crate::upstream::request::{Answered, By, Question, Requests};

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

impl Requests<'_> {
    /// Asks the endpoint itself. Signs in by its last known challenge, and once more by the challenge of its answer.
    pub(in crate::upstream) async fn ask_endpoint(
        &self,
        endpoint: &Arc<Endpoint>,
        question: &Question,
        url: Url,
    ) -> Result<Answered, Failure> {
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
}

pub(in crate::upstream) fn challenge_in(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::parse(&values.collect::<Vec<_>>().join(", "))
}
