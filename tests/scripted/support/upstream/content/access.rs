//! Logins, and the repositories that each may read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::upstream::observe::record::Recorded;

#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
    /// Empty: all of them.
    pub(crate) repositories: Vec<String>,
}

impl Login {
    pub(crate) fn new(name: &str, password: &str, repositories: &[&str]) -> Self {
        let repositories = repositories.iter().map(ToString::to_string).collect();
        Self { name: name.to_owned(), password: password.to_owned(), repositories }
    }

    pub(crate) fn may_read(&self, repository: &str) -> bool {
        self.repositories.is_empty() || covers(&self.repositories, repository)
    }
}

/// `org/` stands for all repositories below it, anything else for itself.
pub(crate) fn covers(patterns: &[String], repository: &str) -> bool {
    patterns.iter().any(|pattern| repository == pattern || pattern.ends_with('/') && repository.starts_with(pattern))
}

/// The value of an `Authorization: Basic` header.
pub(crate) fn basic(request: &Recorded) -> Option<(String, String)> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = pair.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
