//! Whether a fact that was read earlier may have changed since: so that facts can be kept in memory.
//!
//! Every change moves the counters of its subjects, after it has become visible and before its writer is told that it was
//! made. A reader that keeps a fact takes the counters *before* reading it, and believes it as long as they stand. Thus a
//! read that began before a change never outlives it, however late it is kept. Counters are few and shared: two facts on one
//! counter cost each other a read, never a wrong answer.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::{Digest, Tag};

use super::Scope;

/// A power of two. 32 KiB in all.
const COUNTERS: usize = 4096;

/// How far the counters behind a fact had moved when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    first: u64,
    second: u64,
}

impl Generation {
    /// Whether nothing has changed of the digest that both are of, whatever scopes they were taken in.
    pub fn is_of_same_content(&self, other: &Self) -> bool {
        self.second == other.second
    }
}

pub(super) struct Generations {
    counters: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Generations {
    fn default() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::new() }
    }
}

/// The subject of a counter.
#[derive(Hash)]
enum Subject<'a> {
    Scope(&'a Scope),
    Digest(Digest),
    Tag(&'a Scope, &'a Tag),
}

impl Generations {
    pub(super) fn of_digest(&self, scope: &Scope, digest: Digest) -> Generation {
        Generation { first: self.read(&Subject::Scope(scope)), second: self.read(&Subject::Digest(digest)) }
    }

    pub(super) fn of_tag(&self, scope: &Scope, tag: &Tag) -> Generation {
        Generation { first: self.read(&Subject::Tag(scope, tag)), second: 0 }
    }

    pub(super) fn bump_digest(&self, digest: Digest) {
        self.moved(&Subject::Digest(digest));
    }

    pub(super) fn bump_scope(&self, scope: &Scope) {
        self.moved(&Subject::Scope(scope));
    }

    pub(super) fn bump_tag(&self, scope: &Scope, tag: &Tag) {
        self.moved(&Subject::Tag(scope, tag));
    }

    pub(super) fn bump_all(&self) {
        for counter in &self.counters {
            counter.fetch_add(1, Ordering::Release);
        }
    }

    fn read(&self, subject: &Subject<'_>) -> u64 {
        // A reader that sees a counter moved sees the change that moved it.
        self.counter(subject).map_or(0, |counter| counter.load(Ordering::Acquire))
    }

    fn moved(&self, subject: &Subject<'_>) {
        if let Some(counter) = self.counter(subject) {
            counter.fetch_add(1, Ordering::Release);
        }
    }

    fn counter(&self, subject: &impl Hash) -> Option<&AtomicU64> {
        let slot = usize::try_from(self.hasher.hash_one(subject)).unwrap_or(0) & (COUNTERS - 1);
        self.counters.get(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Aging, Change, DropExpired, DropGrants, EndEviction, UseGrant};

    fn scope(repository: &str) -> Scope {
        Scope { domain: 0, authority: "docker.io".parse().unwrap(), repository: repository.parse().unwrap() }
    }

    #[test]
    fn what_is_revoked_or_removed_outdates_what_was_read_before() {
        let generations = Generations::default();
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"a");
        let (app, tag) = (scope("org/app"), "1".parse().unwrap());
        let (table, whole_authority) = (Aging::BlobGrants, false);
        let key = (0, "docker.io".to_owned(), "org/app".to_owned(), digest.to_string());
        for change in [
            Change::from(DropGrants { scope: app.clone() }),
            Change::from(EndEviction { digests: vec![digest], gone: true }),
            Change::from(UseGrant { scope: app.clone(), whole_authority, digest, table, day: 1 }),
            Change::from(DropExpired { table, key, before_day: 1 }),
        ] {
            let (before, of_tag) = (generations.of_digest(&app, digest), generations.of_tag(&app, &tag));
            change.bump(&generations);
            assert_ne!(generations.of_digest(&app, digest), before, "{change:?}");
            assert_eq!(generations.of_tag(&app, &tag), of_tag, "{change:?}");
        }
    }

    #[test]
    fn a_scope_that_lost_its_grants_has_the_same_content_and_one_that_was_removed_not() {
        let generations = Generations::default();
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"a");
        let (app, other) = (scope("org/app"), scope("org/other"));
        let opened = generations.of_digest(&app, digest);
        generations.bump_scope(&app);
        assert!(opened.is_of_same_content(&generations.of_digest(&other, digest)));
        generations.bump_digest(digest);
        assert!(!opened.is_of_same_content(&generations.of_digest(&other, digest)));
    }
}
