//! The door of the registry: open, or with a challenge.

use http::StatusCode;

use super::access::{Login, basic};
use super::token::TokenAuth;
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::server::answer::Answer;
use crate::support::upstream::server::route::Kind;

#[derive(Clone, Default)]
pub(crate) enum Guard {
    #[default]
    Open,
    Token(TokenAuth),
    Basic(BasicAuth),
}

/// Logins for `Authorization: Basic`, sent with every request.
#[derive(Clone, Default)]
pub(crate) struct BasicAuth {
    logins: Vec<Login>,
}

impl BasicAuth {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// May read everything.
    pub(crate) fn user(self, name: &str, password: &str) -> Self {
        self.user_of(name, password, &[])
    }

    /// May read these repositories; `org/` stands for all below it.
    pub(crate) fn user_of(mut self, name: &str, password: &str, repositories: &[&str]) -> Self {
        self.logins.push(Login::new(name, password, repositories));
        self
    }

    fn admits(&self, request: &Recorded) -> bool {
        let Some((name, password)) = basic(request) else { return false };
        let login = self.logins.iter().find(|login| login.name == name && login.password == password);
        login.is_some_and(|login| request.repository.as_ref().is_none_or(|repository| login.may_read(repository)))
    }
}

impl Guard {
    pub(crate) fn admits(&self, request: &Recorded) -> bool {
        if matches!(request.kind, Kind::Token | Kind::File) {
            return true;
        }
        match self {
            Self::Open => true,
            Self::Token(auth) => auth.admits(request),
            Self::Basic(auth) => auth.admits(request),
        }
    }

    /// The answer to a request that is not let in.
    pub(crate) fn refusal(&self, request: &Recorded, scheme: &str) -> Answer {
        let answer = Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let challenge = match self {
            Self::Open => None,
            Self::Token(auth) => auth.challenge(request, scheme),
            Self::Basic(_) => Some("Basic realm=\"registry\"".to_owned()),
        };
        match challenge {
            Some(challenge) => answer.header("www-authenticate", &challenge),
            None => answer,
        }
    }
}
