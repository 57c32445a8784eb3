//! Backoff after refused logins: a refused login is not repeated for a while, so that the upstream does not lock the
//! account (docs/SECURITY-THREATS.md, T12).

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::clock::{Clock, Timestamp};

use crate::upstream::auth::credentials::Login;
use crate::upstream::error::Failure;

/// How long refused credentials are not tried again.
const WINDOW: Duration = Duration::from_mins(1);
/// Refused scopes in one window after which the login itself counts as wrong.
const MAX_REFUSED_SCOPES: usize = 10;
const MAX_GOOD: usize = 1000;

/// A hash of credentials, which identifies refused ones without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct Fingerprint(u64);

impl Fingerprint {
    pub(in crate::upstream) fn of(login: &Login) -> Self {
        let mut hasher = DefaultHasher::new();
        login.hash(&mut hasher);
        Self(hasher.finish())
    }
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
}

impl State {
    fn is_good(&self, login: Fingerprint) -> bool {
        self.good.contains(&(login, None))
    }
}

/// The permit to log in. Other attempts with an unproven login wait while it is held.
#[derive(Debug)]
pub(in crate::upstream) struct LoginPermit {
    _trial: Option<OwnedMutexGuard<()>>,
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
        if self.state().is_good(login) {
            return Ok(LoginPermit { _trial: None });
        }
        let trial = Arc::clone(&self.trial).lock_owned().await;
        self.check(login, scope)?;
        Ok(LoginPermit { _trial: Some(trial).filter(|_| !self.state().is_good(login)) })
    }

    pub(in crate::upstream) fn check(&self, login: Fingerprint, scope: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut state = self.state();
        state.refused.retain(|_, until| now < *until);
        let scope = Some(scope.to_owned());
        if state.refused.contains_key(&(login, None)) || state.refused.contains_key(&(login, scope.clone())) {
            return Err(Failure::LockedOut);
        }
        // Invented repository names must not cost a login each. Scopes where the login has worked stay open.
        let guesses = state.refused.keys().filter(|(refused, _)| *refused == login).count();
        if guesses >= MAX_REFUSED_SCOPES && !state.good.contains(&(login, scope)) {
            return Err(Failure::LockedOut);
        }
        Ok(())
    }

    pub(in crate::upstream) fn worked(&self, login: Fingerprint, scope: &str) {
        let mut state = self.state();
        if state.good.len() >= MAX_GOOD {
            state.good.clear();
        }
        state.good.extend([(login, None), (login, Some(scope.to_owned()))]);
    }

    /// Records that the login itself is wrong.
    pub(in crate::upstream) fn refused(&self, login: Fingerprint) {
        let until = self.clock.now().plus(WINDOW);
        let mut state = self.state();
        state.good.retain(|(good, _)| *good != login);
        state.refused.insert((login, None), until);
    }

    /// Records a refusal in one scope. The login may be right and only lack access there: a repository name that a client
    /// invents must not block others. A login that never worked, or that has worked in this scope, counts as wrong.
    pub(in crate::upstream) fn refused_here(&self, login: Fingerprint, scope: &str) {
        let until = self.clock.now().plus(WINDOW);
        let mut state = self.state();
        let here = Some(scope.to_owned());
        let is_right = state.is_good(login) && !state.good.contains(&(login, here.clone()));
        if !is_right {
            state.good.retain(|(good, _)| *good != login);
        }
        state.refused.insert((login, here.filter(|_| is_right)), until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn login(password: &str) -> Fingerprint {
        Fingerprint::of(&Login::Password { username: "robot".to_owned(), password: Secret::new(password) })
    }

    #[tokio::test]
    async fn t12_a_refused_login_is_left_alone_for_a_window_and_another_password_is_not() {
        let clock = Clock::default();
        let login_backoff = LoginBackoff::new(clock.clone());
        drop(login_backoff.permit(login("wrong"), "a").await.unwrap());
        login_backoff.refused(login("wrong"));
        assert!(login_backoff.permit(login("wrong"), "b").await.is_err());
        assert!(login_backoff.permit(login("right"), "b").await.is_ok());
        clock.advance(WINDOW);
        assert!(login_backoff.permit(login("wrong"), "a").await.is_ok());
    }

    #[tokio::test]
    async fn t12_a_scope_that_is_closed_to_a_good_login_leaves_the_others_open() {
        let login_backoff = LoginBackoff::new(Clock::default());
        let robot = login("right");
        login_backoff.worked(robot, "known");
        login_backoff.refused_here(robot, "closed");
        assert!(login_backoff.check(robot, "closed").is_err() && login_backoff.check(robot, "open").is_ok());
        for n in 1..MAX_REFUSED_SCOPES {
            login_backoff.refused_here(robot, &format!("closed/{n}"));
        }
        assert!(login_backoff.check(robot, "open").is_err(), "no more guesses in this window");
        assert!(login_backoff.check(robot, "known").is_ok(), "nobody's guesses lock out what has worked");
        login_backoff.refused_here(robot, "known");
        assert!(login_backoff.check(robot, "known").is_err(), "the password has changed");
    }

    #[tokio::test]
    async fn t12_a_login_that_never_worked_is_tried_by_one_at_a_time() {
        let login_backoff = Arc::new(LoginBackoff::new(Clock::default()));
        let first = login_backoff.permit(login("x"), "a").await.unwrap();
        let second = tokio::spawn({
            let login_backoff = Arc::clone(&login_backoff);
            async move { login_backoff.permit(login("x"), "b").await.map(drop) }
        });
        login_backoff.refused(login("x"));
        drop(first);
        assert_eq!(second.await.unwrap(), Err(Failure::LockedOut));
    }
}
