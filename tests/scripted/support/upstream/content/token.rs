//! Bearer tokens as registries hand them out, and the ways in which they do it badly.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Login;

/// A token service and the registry's trust in it. Clones are the same service, so that a test may keep one and change
/// it while it runs, and may let another `Upstream` hand the tokens out.
#[derive(Clone)]
pub(crate) struct TokenAuth {
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub(crate) path: String,
    pub(crate) realm: Option<String>,
    pub(crate) service: String,
    pub(crate) logins: Vec<Login>,
    pub(crate) login_required: bool,
    pub(crate) private: Vec<String>,
    pub(crate) expires_in: Option<u64>,
    pub(crate) field: TokenField,
    pub(crate) padding: usize,
    pub(crate) accepts_post: bool,
    pub(crate) challenges_left: usize,
    pub(crate) placeholder_on_ping: bool,
    pub(crate) issued: Vec<Issued>,
    pub(crate) failed_logins: usize,
}

/// A token that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) token: String,
    /// The login's name, or none for an anonymous one.
    pub(crate) user: Option<String>,
    /// Repositories that were asked for and granted.
    pub(crate) repositories: Vec<String>,
    pub(crate) expired: bool,
}

/// Which field of the answer holds the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenField {
    Token,
    AccessToken,
    Both,
}

/// How the service is. Without any of these: anonymous tokens for everything, by GET, at `/token` of the host asked,
/// for 300 seconds, in `token`.
impl TokenAuth {
    pub(crate) fn new() -> Self {
        let state = State {
            path: "/token".to_owned(),
            realm: None,
            service: "registry.test".to_owned(),
            logins: Vec::new(),
            login_required: false,
            private: Vec::new(),
            expires_in: Some(300),
            field: TokenField::Token,
            padding: 0,
            accepts_post: false,
            challenges_left: usize::MAX,
            placeholder_on_ping: false,
            issued: Vec::new(),
            failed_logins: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.lock());
        self
    }

    /// May pull everything.
    pub(crate) fn user(self, name: &str, password: &str) -> Self {
        self.user_of(name, password, &[])
    }

    /// May pull these repositories; `org/` stands for all below it.
    pub(crate) fn user_of(self, name: &str, password: &str, repositories: &[&str]) -> Self {
        self.with(|state| state.logins.push(Login::new(name, password, repositories)))
    }

    /// In place of the password so far.
    pub(crate) fn password(self, name: &str, password: &str) -> Self {
        self.with(|state| {
            for login in state.logins.iter_mut().filter(|login| login.name == name) {
                password.clone_into(&mut login.password);
            }
        })
    }

    /// The service has no anonymous tokens at all: 401.
    pub(crate) fn login_required(self) -> Self {
        self.with(|state| state.login_required = true)
    }

    /// Anonymous tokens are given out but do not open these; `org/` stands for all below it.
    pub(crate) fn private(self, repository: &str) -> Self {
        self.with(|state| state.private.push(repository.to_owned()))
    }

    /// The path of the service, instead of `/token`.
    pub(crate) fn path(self, path: &str) -> Self {
        self.with(|state| path.clone_into(&mut state.path))
    }

    /// The realm that challenges name, whatever it is.
    pub(crate) fn realm(self, url: &str) -> Self {
        self.with(|state| state.realm = Some(url.to_owned()))
    }

    pub(crate) fn service(self, service: &str) -> Self {
        self.with(|state| service.clone_into(&mut state.service))
    }

    /// The lifetime that the answer states; tokens really end by `expire_all`.
    pub(crate) fn expires_in(self, seconds: u64) -> Self {
        self.with(|state| state.expires_in = Some(seconds))
    }

    pub(crate) fn without_expires_in(self) -> Self {
        self.with(|state| state.expires_in = None)
    }

    pub(crate) fn field(self, field: TokenField) -> Self {
        self.with(|state| state.field = field)
    }

    /// Makes the answer longer by so many bytes.
    pub(crate) fn padding(self, bytes: usize) -> Self {
        self.with(|state| state.padding = bytes)
    }

    /// Otherwise POST is answered with 405.
    pub(crate) fn accepts_post(self) -> Self {
        self.with(|state| state.accepts_post = true)
    }

    /// Only so many 401s carry a challenge; later ones have none.
    pub(crate) fn challenges(self, n: usize) -> Self {
        self.with(|state| state.challenges_left = n)
    }

    /// On `/v2/` the challenge names the scope `repository:user/image:pull`, which is nobody's.
    pub(crate) fn placeholder_scope_on_ping(self) -> Self {
        self.with(|state| state.placeholder_on_ping = true)
    }
}

/// Counters, and the next answers.
impl TokenAuth {
    pub(crate) fn issued(&self) -> Vec<Issued> {
        self.lock().issued.clone()
    }

    pub(crate) fn failed_logins(&self) -> usize {
        self.lock().failed_logins
    }

    /// No token given out so far is good any longer.
    pub(crate) fn expire_all(&self) {
        self.lock().issued.iter_mut().for_each(|token| token.expired = true);
    }
}

impl TokenAuth {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
