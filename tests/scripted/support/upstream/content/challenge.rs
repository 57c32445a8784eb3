//! The registry's side of the dance: which tokens open what, and what those hear who have none.

use super::access::{Login, covers};
use super::token::{Issued, State, TokenAuth};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::server::route::Kind;

impl TokenAuth {
    pub(crate) fn admits(&self, request: &Recorded) -> bool {
        let state = self.lock();
        let Some(token) = request.bearer().and_then(|token| state.good(token)) else { return false };
        request.repository.as_ref().is_none_or(|repository| token.repositories.contains(repository))
    }

    pub(crate) fn challenge(&self, request: &Recorded, scheme: &str) -> Option<String> {
        let mut state = self.lock();
        state.challenges_left = state.challenges_left.checked_sub(1)?;
        let host = request.header("host").unwrap_or_default();
        let realm = state.realm.clone().unwrap_or_else(|| format!("{scheme}://{host}{}", state.path));
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{}\"", state.service);
        if let Some(repository) = &request.repository {
            challenge.extend([",scope=\"repository:", repository, ":pull\""]);
        } else if state.placeholder_on_ping && request.kind == Kind::Ping {
            challenge += ",scope=\"repository:user/image:pull\"";
        }
        if let Some(token) = request.bearer() {
            let error = if state.good(token).is_some() { "insufficient_scope" } else { "invalid_token" };
            challenge.extend([",error=\"", error, "\""]);
        }
        Some(challenge)
    }
}

impl State {
    fn good(&self, token: &str) -> Option<&Issued> {
        self.issued.iter().find(|issued| issued.token == token && !issued.expired)
    }

    pub(crate) fn may_pull(&self, login: Option<&Login>, repository: &str) -> bool {
        match login {
            Some(login) => login.may_read(repository),
            None => !covers(&self.private, repository),
        }
    }
}
