//! The credentials that an upstream refuses now, for the operator: one warning when that begins, and a line in `/readyz` and
//! `status` until they work again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::health::Health;
use crate::oci::Authority;

use crate::upstream::settings::CredentialSource;

/// Credentials that an upstream refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLogin {
    /// When it refused them first.
    pub since: Timestamp,
    /// Where they come from: a file, or a helper's name.
    pub source: String,
}

/// A login that is refused, and what was told of it.
struct Refused {
    /// A hash of the login.
    login: u64,
    told: RefusedLogin,
    sentence: String,
}

pub(super) struct RefusedLogins {
    authority: Authority,
    health: Health,
    /// By the index of the credential rule.
    refused: Mutex<HashMap<usize, Refused>>,
}

impl RefusedLogins {
    pub(super) fn new(authority: Authority, health: Health) -> Self {
        Self { authority, health, refused: Mutex::default() }
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<usize, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that have been refused for longest.
    pub(super) fn first(&self) -> Option<RefusedLogin> {
        self.refused().values().map(|refused| refused.told.clone()).min_by_key(|refused| refused.since)
    }

    /// Records that a login of this rule was refused. Warns once, and again if the operator has changed it meanwhile. A
    /// helper makes a new login each time.
    pub(super) fn refuse(&self, rule: usize, source: &CredentialSource, login: u64, now: Timestamp) {
        let mut refused = self.refused();
        let before = refused.get(&rule).map(|refused| refused.login);
        let is_new = before.is_none_or(|before| before != login && !matches!(source, CredentialSource::Helper(_)));
        if !is_new {
            return;
        }
        let (remedy, source) = (source.remedy(), source.name());
        let what = format!(
            "{} refuses the credentials in {source}: {remedy}; what is held is served stale until they work",
            self.authority
        );
        tracing::warn!(authority = %self.authority, "{what}");
        self.health.begin_trouble(what.clone());
        refused.insert(rule, Refused { login, told: RefusedLogin { since: now, source }, sentence: what });
    }

    /// Records that a login of this rule has worked.
    pub(super) fn accept(&self, rule: usize) {
        let Some(Refused { told, sentence, .. }) = self.refused().remove(&rule) else { return };
        self.health.end_trouble(&sentence);
        let source = told.source;
        tracing::info!(authority = %self.authority, "{} accepts the credentials in {source} again", self.authority);
    }
}

impl Drop for RefusedLogins {
    /// A registry that a wildcard admitted may be forgotten.
    fn drop(&mut self) {
        for refused in self.refused().values() {
            self.health.end_trouble(&refused.sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t41_the_operator_sees_refused_credentials_until_they_work_or_the_registry_is_forgotten() {
        let health = Health::default();
        let refused = RefusedLogins::new("quay.io".parse().unwrap(), health.clone());
        let file = |name: &str| CredentialSource::DockerConfig(name.into());
        assert_eq!(refused.first(), None);
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        refused.refuse(0, &file("/a"), 7, early);
        refused.refuse(0, &file("/a"), 7, late);
        refused.refuse(1, &file("/b"), 8, late);
        assert_eq!(refused.first(), Some(RefusedLogin { since: early, source: "/a".to_owned() }));
        assert_eq!(health.degraded().len(), 2);
        refused.accept(0);
        assert_eq!(refused.first(), Some(RefusedLogin { since: late, source: "/b".to_owned() }));
        drop(refused);
        assert_eq!(health.degraded(), []);
    }
}
