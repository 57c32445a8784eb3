//! What upstream refuses, from the moment this is known until its grants are durably dropped: a disk that takes no facts must
//! not let anyone read on.
//!
//! There is room for so many refusals. Beyond them, the registry with the most is refused as a whole until they are durable,
//! so that upstream is asked again: who makes names up at one registry takes nothing away from another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, Scope};
use crate::oci::{Authority, Digest};

/// Refusals known at a time.
const MAX: usize = 65_536;

/// What nothing may be read of without asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    Scope(Scope),
    /// Where one grant had opened it to the whole authority.
    Digest(u32, Authority, Digest),
    /// `None`: every one.
    All(Option<Authority>),
}

/// How many drops of it are on their way.
#[derive(Debug, Default, Clone, Copy)]
struct Drops {
    /// To the writer.
    coming: usize,
    /// To the disk.
    taken: usize,
}

impl Drops {
    const fn is_over(self) -> bool {
        self.coming == 0 && self.taken == 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Revoked {
    refused: Mutex<HashMap<Refused, Drops>>,
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

    const fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Scope(Scope { authority, .. }) | Self::Digest(_, authority, _) | Self::All(Some(authority)) => {
                Some(authority)
            }
            Self::All(None) => None,
        }
    }

    /// Itself, and what it may be counted under.
    fn and_wider(&self) -> [Self; 3] {
        [self.clone(), Self::All(self.authority().cloned()), Self::All(None)]
    }
}

impl Revoked {
    fn refused(&self) -> MutexGuard<'_, HashMap<Refused, Drops>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Refused, Drops>) -> T) -> T {
        let mut refused = self.refused();
        let changed = change(&mut refused);
        self.count.store(refused.len(), Ordering::Release);
        changed
    }

    /// What these changes drop is refused from here on.
    pub(super) fn begin(&self, changes: &[Change]) {
        self.change(|refused| {
            for what in changes.iter().flat_map(Refused::by) {
                let wide = Refused::All(what.authority().cloned());
                if refused.len() >= MAX && !refused.contains_key(&what) && !refused.contains_key(&wide) {
                    widen(refused);
                }
                let counted = if refused.contains_key(&what) {
                    what
                } else if refused.contains_key(&wide) {
                    wide
                } else if refused.len() < MAX {
                    what
                } else {
                    Refused::All(None)
                };
                refused.entry(counted).or_default().coming += 1;
            }
        });
    }

    /// The writer has one of its drops.
    pub(super) fn taken(&self, what: &Refused) {
        self.change(|refused| {
            let counted =
                what.and_wider().into_iter().find(|what| refused.get(what).is_some_and(|drops| drops.coming > 0));
            if let Some(drops) = counted.and_then(|counted| refused.get_mut(&counted)) {
                drops.coming -= 1;
                drops.taken += 1;
            }
        });
    }

    /// One that the writer has is not needed.
    pub(super) fn end(&self, what: &Refused) {
        self.change(|refused| {
            let counted =
                what.and_wider().into_iter().find(|what| refused.get(what).is_some_and(|drops| drops.taken > 0));
            if let Some(counted) = counted
                && let Some(drops) = refused.get_mut(&counted)
            {
                drops.taken -= 1;
                if drops.is_over() {
                    refused.remove(&counted);
                }
            }
        });
    }

    /// All that the writer has is durable.
    pub(super) fn durable(&self) {
        if !self.is_empty() {
            self.change(|refused| {
                refused.retain(|_, drops| {
                    drops.taken = 0;
                    !drops.is_over()
                });
            });
        }
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

/// Counts the refusals of the registry that has the most under itself.
fn widen(refused: &mut HashMap<Refused, Drops>) {
    let mut by_registry: HashMap<&Authority, usize> = HashMap::new();
    for what in refused.keys() {
        if let Refused::Scope(Scope { authority, .. }) | Refused::Digest(_, authority, _) = what {
            *by_registry.entry(authority).or_default() += 1;
        }
    }
    let most = by_registry.into_iter().max_by_key(|(_, names)| *names);
    let Some(most) = most.map(|(authority, _)| authority.clone()) else { return };
    let mut sum = Drops::default();
    refused.retain(|what, drops| {
        let stays = what.authority() != Some(&most);
        if !stays {
            sum.coming += drops.coming;
            sum.taken += drops.taken;
        }
        stays
    });
    refused.insert(Refused::All(Some(most)), sum);
}

fn refuses(refused: &HashMap<Refused, Drops>, scope: &Scope) -> bool {
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

    fn begin(revoked: &Revoked, authority: &str, repository: &str) -> Refused {
        let scope = scope(authority, repository);
        revoked.begin(&[Change::DropGrants { scope: scope.clone() }]);
        Refused::Scope(scope)
    }

    #[test]
    fn a_scope_stays_revoked_until_each_of_its_drops_is_durable() {
        let (revoked, app) = (Revoked::default(), scope("docker.io", "org/app"));
        assert!(!revoked.contains(&app));
        let first = begin(&revoked, "docker.io", "org/app");
        revoked.taken(&first);
        let second = begin(&revoked, "docker.io", "org/app");
        revoked.durable();
        assert!(revoked.contains(&app) && !revoked.contains(&scope("docker.io", "org/other")));
        revoked.taken(&second);
        assert!(revoked.contains(&app));
        revoked.durable();
        assert!(!revoked.contains(&app));
        // One that is read back from a journal was never asked for here.
        revoked.taken(&first);
        assert!(!revoked.contains(&app) && revoked.is_empty());
    }

    #[test]
    fn what_was_opened_to_a_whole_authority_is_refused_in_all_of_it() {
        let (revoked, app, other) =
            (Revoked::default(), scope("docker.io", "org/app"), scope("docker.io", "org/other"));
        let digest = Digest::of(Algorithm::Sha256, b"");
        let drop = Change::DropPublicGrants { scope: app, digests: vec![digest, digest] };
        revoked.begin(std::slice::from_ref(&drop));
        assert!(revoked.contains_digest(&other, digest, true) && !revoked.contains_digest(&other, digest, false));
        assert!(!revoked.contains_digest(&scope("quay.io", "org/app"), digest, true));
        for refused in Refused::by(&drop) {
            revoked.taken(&refused);
            revoked.end(&refused);
        }
        assert!(revoked.is_empty());
    }

    #[test]
    fn what_is_not_known_one_by_one_any_more_refuses_its_registry_and_no_other() {
        let revoked = Revoked::default();
        let refused = begin(&revoked, "b.test", "one/secret");
        let mut made_up: Vec<Refused> =
            (1..MAX).map(|nth| begin(&revoked, "a.test", &format!("made/up{nth}"))).collect();
        assert!(!revoked.contains(&scope("a.test", "org/app")));
        made_up.push(begin(&revoked, "b.test", "another/secret"));
        made_up.push(begin(&revoked, "a.test", "one/more"));
        assert!(revoked.contains(&scope("a.test", "org/app")) && !revoked.contains(&scope("b.test", "org/app")));
        assert!(
            revoked.contains(&scope("b.test", "one/secret")) && revoked.contains(&scope("b.test", "another/secret"))
        );
        assert!(revoked.refused().len() <= 3);
        for refused in &made_up {
            assert!(revoked.contains(&scope("a.test", "org/app")));
            revoked.taken(refused);
        }
        revoked.durable();
        assert!(!revoked.contains(&scope("a.test", "org/app")) && revoked.contains(&scope("b.test", "one/secret")));
        revoked.taken(&refused);
        revoked.end(&refused);
        assert!(revoked.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_is_known_however_many_registries_there_are() {
        let revoked = Revoked::default();
        for nth in 0..MAX + 10 {
            revoked.begin(&[Change::DropAllGrants { authority: Some(format!("{nth}.test").parse().unwrap()) }]);
        }
        assert!(revoked.refused().len() <= MAX + 1);
        assert!(revoked.contains(&scope("b.test", "org/app")), "what is beyond it is asked for");
    }
}
