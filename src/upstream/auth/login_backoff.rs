//! Backoff after refused logins: a refused login is not repeated for a while, so that the upstream does not lock the
//! account (docs/SECURITY-THREATS.md, T12).
//!
//! A 401 or 403 may mean that the login is wrong, or that a right one may not read one repository. Only the second is a
//! revocation. A request without a repository tells the two apart, as `docker login` sends it: `super::logins`.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use url::Url;

use crate::clock::{Clock, Timestamp};

use crate::upstream::auth::credentials::Login;
use crate::upstream::error::Failure;

/// How long refused credentials are not tried again.
const WINDOW: Duration = Duration::from_mins(1);
/// Refused scopes in one window after which the login itself counts as wrong.
const MAX_REFUSED_SCOPES: usize = 10;
/// Servers that may refuse one login in one window. After that, no other server gets it either.
const MAX_REFUSING_SERVERS: usize = 3;
const MAX_GOOD: usize = 1000;

/// A hash of credentials and of the server that judges them, which identifies refused ones without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct Fingerprint {
    login: u64,
    server: u64,
}

impl Fingerprint {
    /// `server` is a token server's URL, or the endpoint's for Basic.
    pub(in crate::upstream) fn of(login: &Login, server: &Url) -> Self {
        Self { login: hash(login), server: hash(server) }
    }

    /// Of who signs in, where the login itself changes by itself.
    pub(in crate::upstream) fn of_identity(name: &str, server: &Url) -> Self {
        Self { login: hash(&name), server: hash(server) }
    }

    /// The hash of the credentials alone.
    pub(in crate::upstream) const fn login(self) -> u64 {
        self.login
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
pub(in crate::upstream) struct LoginBackoff {
    clock: Clock,
    state: Mutex<State>,
    /// Held by the one running login that has not worked before.
    trial: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// The scopes where each login has worked; `None` means that it has worked in some scope.
    good: HashSet<(Fingerprint, Option<String>)>,
    /// End of each refusal, for one scope or (`None`) for all.
    refused: HashMap<(Fingerprint, Option<String>), Timestamp>,
    /// Logins that never worked, and whose last refusal was for a scope: it may have been about that scope only.
    unjudged: HashSet<Fingerprint>,
}

impl State {
    fn is_good(&self, login: Fingerprint) -> bool {
        self.good.contains(&(login, None))
    }

    fn check(&mut self, login: Fingerprint, scope: &str, now: Timestamp) -> Result<(), Failure> {
        self.refused.retain(|_, until| now < *until);
        let scope = Some(scope.to_owned());
        if self.refused.contains_key(&(login, None)) || self.refused.contains_key(&(login, scope.clone())) {
            return Err(Failure::LockedOut);
        }
        // An upstream may name any number of token servers on an allowed host.
        let servers = self.refused.keys().filter(|(refused, whole)| refused.login == login.login && whole.is_none());
        if servers.count() >= MAX_REFUSING_SERVERS {
            return Err(Failure::LockedOut);
        }
        // Invented repository names must not cost a login each. Scopes where the login has worked stay open.
        let guesses = self.refused.keys().filter(|(refused, _)| *refused == login).count();
        if guesses >= MAX_REFUSED_SCOPES && !self.good.contains(&(login, scope)) {
            return Err(Failure::LockedOut);
        }
        Ok(())
    }
}

/// The permit to log in. Other attempts with an unproven login wait while it is held.
#[derive(Debug)]
pub(in crate::upstream) struct LoginPermit {
    trial: Option<OwnedMutexGuard<()>>,
    /// The login has to be tried without a scope first.
    pub(in crate::upstream) judge_first: bool,
}

impl LoginPermit {
    /// Whether no other unproven login is tried meanwhile.
    pub(in crate::upstream) const fn is_alone(&self) -> bool {
        self.trial.is_some()
    }
}

impl LoginBackoff {
    pub(in crate::upstream) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), trial: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logins that have worked before proceed at once. Others proceed one after the other, so that a wrong one is tried
    /// once and not once per concurrent request.
    pub(in crate::upstream) async fn permit(&self, login: Fingerprint, scope: &str) -> Result<LoginPermit, Failure> {
        self.check(login, scope)?;
        if self.is_good(login) {
            return Ok(LoginPermit { trial: None, judge_first: false });
        }
        let trial = self.alone().await;
        self.check(login, scope)?;
        let state = self.state();
        Ok(LoginPermit {
            trial: Some(trial).filter(|_| !state.is_good(login)),
            judge_first: state.unjudged.contains(&login),
        })
    }

    /// Resolves when no unproven login is being tried.
    pub(in crate::upstream) async fn alone(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.trial).lock_owned().await
    }

    pub(in crate::upstream) fn check(&self, login: Fingerprint, scope: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        self.state().check(login, scope, now)
    }

    /// What is known by now of a login that was refused in `scope`: that it is wrong, or that only the scope is closed to it.
    pub(in crate::upstream) fn judgement(&self, login: Fingerprint, scope: &str) -> Option<Failure> {
        let now = self.clock.now();
        let state = self.state();
        let is_refused = |scope| state.refused.get(&(login, scope)).is_some_and(|until| now < *until);
        if is_refused(None) {
            return Some(Failure::LoginRefused);
        }
        is_refused(Some(scope.to_owned())).then_some(Failure::DeniedCredentials)
    }

    /// Whether the login has worked and was not refused since.
    pub(in crate::upstream) fn is_good(&self, login: Fingerprint) -> bool {
        self.state().is_good(login)
    }

    /// Records that the login has worked: in a scope, or (`None`) where none was asked for.
    pub(in crate::upstream) fn worked(&self, login: Fingerprint, scope: Option<&str>) {
        let mut state = self.state();
        if state.good.len() >= MAX_GOOD {
            state.good.clear();
        }
        state.unjudged.remove(&login);
        state.good.extend([(login, None), (login, scope.map(str::to_owned))]);
    }

    /// Records that the login itself is wrong. `for_a_scope`: it was refused for a scope, and has never worked.
    pub(in crate::upstream) fn refused(&self, login: Fingerprint, for_a_scope: bool) {
        let until = self.clock.now().plus(WINDOW);
        let mut state = self.state();
        state.good.retain(|(good, _)| *good != login);
        state.refused.insert((login, None), until);
        if state.unjudged.len() >= MAX_GOOD {
            state.unjudged.clear();
        }
        if for_a_scope {
            state.unjudged.insert(login);
        } else {
            // A server that refuses every request without a scope must not shut out a right login for ever.
            state.unjudged.remove(&login);
        }
    }

    /// Records that a right login may not read one scope: a repository name that a client invents must not block others.
    pub(in crate::upstream) fn refused_here(&self, login: Fingerprint, scope: &str) {
        let until = self.clock.now().plus(WINDOW);
        self.state().refused.insert((login, Some(scope.to_owned())), until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn login(password: &str) -> Fingerprint {
        at(password, "https://auth.test/token")
    }

    fn at(password: &str, server: &str) -> Fingerprint {
        let login = Login::Password { username: "robot".to_owned(), password: Secret::new(password) };
        Fingerprint::of(&login, &server.parse().unwrap())
    }

    #[tokio::test]
    async fn t12_a_refused_login_is_left_alone_for_a_window_and_another_password_is_not() {
        let clock = Clock::default();
        let login_backoff = LoginBackoff::new(clock.clone());
        drop(login_backoff.permit(login("wrong"), "a").await.unwrap());
        login_backoff.refused(login("wrong"), true);
        assert!(login_backoff.permit(login("wrong"), "b").await.is_err());
        assert!(login_backoff.permit(login("right"), "b").await.is_ok());
        clock.advance(WINDOW);
        assert!(login_backoff.permit(login("wrong"), "a").await.is_ok());
    }

    #[tokio::test]
    async fn t12_a_scope_that_is_closed_to_a_good_login_leaves_the_others_open() {
        let login_backoff = LoginBackoff::new(Clock::default());
        let robot = login("right");
        login_backoff.worked(robot, Some("known"));
        login_backoff.refused_here(robot, "closed");
        assert!(login_backoff.check(robot, "closed").is_err() && login_backoff.check(robot, "open").is_ok());
        for n in 1..MAX_REFUSED_SCOPES {
            login_backoff.refused_here(robot, &format!("closed/{n}"));
        }
        assert!(login_backoff.check(robot, "open").is_err(), "no more guesses in this window");
        assert!(login_backoff.check(robot, "known").is_ok(), "nobody's guesses lock out what has worked");
        login_backoff.refused(robot, false);
        assert!(login_backoff.check(robot, "known").is_err(), "the password has changed");
    }

    #[tokio::test]
    async fn t12_a_login_that_one_token_server_refuses_is_tried_at_few_others() {
        let clock = Clock::default();
        let login_backoff = LoginBackoff::new(clock.clone());
        let server = |n: usize| at("right", &format!("https://auth.test/{n}"));
        for n in 0..MAX_REFUSING_SERVERS {
            assert!(login_backoff.check(server(n), "a").is_ok(), "{n}");
            login_backoff.refused(server(n), true);
        }
        assert!(login_backoff.check(server(MAX_REFUSING_SERVERS), "a").is_err());
        clock.advance(WINDOW);
        assert!(login_backoff.check(server(MAX_REFUSING_SERVERS), "a").is_ok());
    }

    #[tokio::test]
    async fn t41_a_login_that_never_worked_is_judged_without_a_scope_every_other_time() {
        let clock = Clock::default();
        let login_backoff = LoginBackoff::new(clock.clone());
        for judge_first in [false, true, false] {
            let permit = login_backoff.permit(login("x"), "a").await.unwrap();
            assert_eq!(permit.judge_first, judge_first);
            login_backoff.refused(login("x"), !judge_first);
            clock.advance(WINDOW);
        }
    }

    #[tokio::test]
    async fn t12_a_login_that_never_worked_is_tried_by_one_at_a_time() {
        let login_backoff = Arc::new(LoginBackoff::new(Clock::default()));
        let first = login_backoff.permit(login("x"), "a").await.unwrap();
        let second = tokio::spawn({
            let login_backoff = Arc::clone(&login_backoff);
            async move { login_backoff.permit(login("x"), "b").await.map(drop) }
        });
        login_backoff.refused(login("x"), true);
        drop(first);
        assert_eq!(second.await.unwrap(), Err(Failure::LockedOut));
    }
}
