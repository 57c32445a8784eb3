//! What upstream refuses, from the moment this is known until its grants are durably dropped: a disk that takes no facts must
//! not let anyone read on.
//!
//! There is room for so many refusals. What is refused beyond them is not known one by one: its whole registry is refused
//! then, and in the end every registry, so that upstream is asked again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, Scope};
use crate::oci::{Authority, Digest};

/// Scopes and digests known one by one.
const MAX: usize = 65_536;
/// Whole registries.
const MAX_WIDE: usize = 1000;

/// What nothing may be read of without asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    Scope(Scope),
    /// Where one grant had opened it to the whole authority.
    Digest(u32, Authority, Digest),
    /// `None`: every one.
    All(Option<Authority>),
}

#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// How many drops of each are on their way.
    refused: Mutex<HashMap<Refused, usize>>,
    /// Their number: every read asks, and there are none as a rule.
    count: AtomicUsize,
}

impl Refused {
    /// What a change refuses.
    pub(super) fn by(change: &Change) -> Vec<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other kind refuses anything")]
        match change {
            Change::DropGrants { scope } => vec![Self::Scope(scope.clone())],
            Change::DropPublicGrants { scope: Scope { domain, authority, .. }, digests } => {
                digests.iter().map(|digest| Self::Digest(*domain, authority.clone(), *digest)).collect()
            }
            Change::DropAllGrants { authority } => vec![Self::All(authority.clone())],
            _ => Vec::new(),
        }
    }
}

impl Revoked {
    fn refused(&self) -> MutexGuard<'_, HashMap<Refused, usize>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A scope, and in its authority these digests, are refused from here on. What is to be written down for it.
    pub(super) fn begin(&self, scope: &Scope, public: Vec<Digest>) -> Vec<Change> {
        let mut changes = vec![Change::DropGrants { scope: scope.clone() }];
        if !public.is_empty() {
            changes.push(Change::DropPublicGrants { scope: scope.clone(), digests: public });
        }
        let mut refused = self.refused();
        let new: HashSet<Refused> = changes.iter().flat_map(Refused::by).collect();
        let more = new.iter().filter(|new| !refused.contains_key(new)).count();
        if more > 0 && refused.len() + more > MAX {
            let wide = refused.keys().filter(|refused| matches!(refused, Refused::All(_))).count();
            let own = Some(scope.authority.clone());
            let is_known = refused.contains_key(&Refused::All(own.clone()));
            changes = vec![Change::DropAllGrants { authority: own.filter(|_| is_known || wide < MAX_WIDE) }];
        }
        for new in changes.iter().flat_map(Refused::by) {
            *refused.entry(new).or_default() += 1;
        }
        self.count.store(refused.len(), Ordering::Release);
        changes
    }

    /// So many of its drops are durable.
    pub(super) fn end(&self, what: &Refused, drops: usize) {
        let mut refused = self.refused();
        if let Some(left) = refused.get_mut(what) {
            *left = left.saturating_sub(drops);
            if *left == 0 {
                refused.remove(what);
            }
        }
        self.count.store(refused.len(), Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Ask before reading: a scope that is no longer here has had its grants dropped.
    pub(super) fn contains(&self, scope: &Scope) -> bool {
        !self.is_empty() && refuses(&self.refused(), scope)
    }

    /// The same for a digest that may have been opened to the whole authority.
    pub(super) fn contains_digest(&self, scope: &Scope, digest: Digest, whole_authority: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let refused = self.refused();
        let public = || Refused::Digest(scope.domain, scope.authority.clone(), digest);
        refuses(&refused, scope) || (whole_authority && refused.contains_key(&public()))
    }
}

fn refuses(refused: &HashMap<Refused, usize>, scope: &Scope) -> bool {
    let is = |what: Refused| refused.contains_key(&what);
    is(Refused::Scope(scope.clone())) || is(Refused::All(Some(scope.authority.clone()))) || is(Refused::All(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn scope(authority: &str, repository: &str) -> Scope {
        Scope { domain: 0, authority: authority.parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn end(revoked: &Revoked, changes: &[Change]) {
        for refused in changes.iter().flat_map(Refused::by) {
            revoked.end(&refused, 1);
        }
    }

    #[test]
    fn a_scope_stays_revoked_until_each_of_its_drops_is_durable() {
        let (revoked, app) = (Revoked::default(), scope("docker.io", "org/app"));
        assert!(!revoked.contains(&app));
        let (first, second) = (revoked.begin(&app, Vec::new()), revoked.begin(&app, Vec::new()));
        end(&revoked, &first);
        assert!(revoked.contains(&app) && !revoked.contains(&scope("docker.io", "org/other")));
        end(&revoked, &second);
        assert!(!revoked.contains(&app));
        // One that is read back from a journal was never asked for here.
        end(&revoked, &first);
        assert!(!revoked.contains(&app) && revoked.is_empty());
    }

    #[test]
    fn what_was_opened_to_a_whole_authority_is_refused_in_all_of_it() {
        let (revoked, app, other) =
            (Revoked::default(), scope("docker.io", "org/app"), scope("docker.io", "org/other"));
        let digest = Digest::of(Algorithm::Sha256, b"");
        let changes = revoked.begin(&app, vec![digest, digest]);
        assert!(revoked.contains_digest(&other, digest, true) && !revoked.contains_digest(&other, digest, false));
        assert!(!revoked.contains_digest(&scope("quay.io", "org/app"), digest, true));
        end(&revoked, &changes);
        assert!(revoked.is_empty());
    }

    #[test]
    fn what_is_not_known_one_by_one_any_more_refuses_its_registry_and_then_every_one() {
        let revoked = Revoked::default();
        for nth in 0..MAX {
            revoked.begin(&scope("a.test", &format!("made/up{nth}")), Vec::new());
        }
        assert!(!revoked.contains(&scope("a.test", "org/app")));
        revoked.begin(&scope("a.test", "one/more"), Vec::new());
        assert!(revoked.contains(&scope("a.test", "org/app")) && !revoked.contains(&scope("b.test", "org/app")));
        for nth in 0..MAX_WIDE {
            revoked.begin(&scope(&format!("{nth}.test"), "made/up"), Vec::new());
        }
        assert!(revoked.contains(&scope("b.test", "org/app")));
        assert!(revoked.refused().len() <= MAX + MAX_WIDE + 1, "and there is an end to it");
        // Those known one by one stay so.
        assert!(matches!(
            revoked.begin(&scope("a.test", "made/up0"), Vec::new()).as_slice(),
            [Change::DropGrants { .. }]
        ));
    }
}
