//! Revocations: they refuse reads from the moment upstream says no until the grants are durably dropped. A disk that takes
//! no facts must not let a client read on.
//!
//! Their number is bounded. Beyond it, the registry with the most is refused as a whole until its drops are durable, and its
//! upstream is asked again. Names made up at one registry take nothing away from another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Scope;
use crate::oci::{Authority, Digest};

/// Revocations known at a time.
const MAX: usize = 65_536;

/// A subject that may not be read without asking upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Revocation {
    Scope(Scope),
    /// One grant had opened it to the whole authority.
    Digest(u32, Authority, Digest),
    /// Lists whose names begin so. They are refused nowhere: upstream is asked for them anyway.
    Lists(Scope, String),
    /// A registry, or with `None` every one.
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
pub(super) struct Revocations {
    refused: Mutex<HashMap<Revocation, Drops>>,
    /// Their number: every read asks, and there are none as a rule.
    count: AtomicUsize,
}

impl Revocation {
    const fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Scope(Scope { authority, .. })
            | Self::Digest(_, authority, _)
            | Self::Lists(Scope { authority, .. }, _)
            | Self::All(Some(authority)) => Some(authority),
            Self::All(None) => None,
        }
    }

    /// Itself, and the coarser ones that may count it.
    fn and_coarser(&self) -> [Self; 3] {
        [self.clone(), Self::All(self.authority().cloned()), Self::All(None)]
    }
}

impl Revocations {
    fn refused(&self) -> MutexGuard<'_, HashMap<Revocation, Drops>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Revocation, Drops>) -> T) -> T {
        let mut refused = self.refused();
        let changed = change(&mut refused);
        self.count.store(refused.len(), Ordering::Release);
        changed
    }

    /// These are refused from here on. Drops of them are on their way to the writer.
    pub(super) fn begin(&self, revocations: impl IntoIterator<Item = Revocation>) {
        self.change(|refused| {
            for what in revocations {
                drops_of(refused, what).coming += 1;
            }
        });
    }

    /// Refuses it until a drop of it is durable. The writer has one and could not write it.
    pub(super) fn keep(&self, what: Revocation) {
        self.change(|refused| {
            let is_kept = |what| refused.get(what).is_some_and(|drops: &Drops| drops.taken > 0);
            if !what.and_coarser().iter().any(is_kept) {
                drops_of(refused, what).taken += 1;
            }
        });
    }

    /// The revocations whose drops the writer has, and which are not durable.
    pub(super) fn pending(&self) -> Vec<Revocation> {
        self.refused().iter().filter(|(_, drops)| drops.taken > 0).map(|(what, _)| what.clone()).collect()
    }

    /// The writer has one of its drops. A drop of lists is none of its registry's grants.
    pub(super) fn taken(&self, what: &Revocation) {
        if matches!(what, Revocation::Lists(..)) {
            return;
        }
        self.change(|refused| {
            let counted =
                what.and_coarser().into_iter().find(|what| refused.get(what).is_some_and(|drops| drops.coming > 0));
            if let Some(drops) = counted.and_then(|counted| refused.get_mut(&counted)) {
                drops.coming -= 1;
                drops.taken += 1;
            }
        });
    }

    /// A drop that the writer has takes nothing away: it is not waited for.
    pub(super) fn end(&self, what: &Revocation) {
        if matches!(what, Revocation::Lists(..)) {
            return;
        }
        self.change(|refused| {
            let counted =
                what.and_coarser().into_iter().find(|what| refused.get(what).is_some_and(|drops| drops.taken > 0));
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

    /// All drops that the writer has are durable.
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

    /// Call before reading the tables: once a scope is absent here, its grants are already dropped.
    pub(super) fn contains(&self, scope: &Scope) -> bool {
        !self.is_empty() && refuses(&self.refused(), scope)
    }

    /// The same for a digest that may have been opened to the whole authority.
    pub(super) fn contains_digest(&self, scope: &Scope, digest: Digest, whole_authority: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let refused = self.refused();
        let public = || Revocation::Digest(scope.domain, scope.authority.clone(), digest);
        refuses(&refused, scope) || (whole_authority && refused.contains_key(&public()))
    }
}

/// The counter of the drops of this: its own, or that of its registry if there is no room for more names.
fn drops_of(refused: &mut HashMap<Revocation, Drops>, what: Revocation) -> &mut Drops {
    let registry = Revocation::All(what.authority().cloned());
    if refused.len() >= MAX && !refused.contains_key(&what) && !refused.contains_key(&registry) {
        coarsen(refused);
    }
    let counted = if refused.contains_key(&what) {
        what
    } else if refused.contains_key(&registry) {
        registry
    } else if refused.len() < MAX {
        what
    } else {
        Revocation::All(None)
    };
    refused.entry(counted).or_default()
}

/// Merges the revocations of the registry that has the most into one.
fn coarsen(refused: &mut HashMap<Revocation, Drops>) {
    let mut by_registry: HashMap<&Authority, usize> = HashMap::new();
    for what in refused.keys() {
        if let Revocation::Scope(Scope { authority, .. })
        | Revocation::Digest(_, authority, _)
        | Revocation::Lists(Scope { authority, .. }, _) = what
        {
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
    refused.insert(Revocation::All(Some(most)), sum);
}

fn refuses(refused: &HashMap<Revocation, Drops>, scope: &Scope) -> bool {
    let is = |what: Revocation| refused.contains_key(&what);
    is(Revocation::Scope(scope.clone()))
        || is(Revocation::All(Some(scope.authority.clone())))
        || is(Revocation::All(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn scope(authority: &str, repository: &str) -> Scope {
        Scope { domain: 0, authority: authority.parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn begin(revocations: &Revocations, authority: &str, repository: &str) -> Revocation {
        let scope = scope(authority, repository);
        revocations.begin([Revocation::Scope(scope.clone())]);
        Revocation::Scope(scope)
    }

    #[test]
    fn a_scope_stays_revoked_until_each_of_its_drops_is_durable() {
        let (revocations, app) = (Revocations::default(), scope("docker.io", "org/app"));
        assert!(!revocations.contains(&app));
        let first = begin(&revocations, "docker.io", "org/app");
        revocations.taken(&first);
        let second = begin(&revocations, "docker.io", "org/app");
        revocations.durable();
        assert!(revocations.contains(&app) && !revocations.contains(&scope("docker.io", "org/other")));
        revocations.taken(&second);
        assert!(revocations.contains(&app));
        revocations.durable();
        assert!(!revocations.contains(&app));
        // One that is read back from a journal was never asked for here.
        revocations.taken(&first);
        assert!(!revocations.contains(&app) && revocations.is_empty());
    }

    #[test]
    fn what_was_opened_to_a_whole_authority_is_refused_in_all_of_it() {
        let (revocations, app, other) =
            (Revocations::default(), scope("docker.io", "org/app"), scope("docker.io", "org/other"));
        let digest = Digest::of(Algorithm::Sha256, b"");
        let twice = [(); 2].map(|()| Revocation::Digest(app.domain, app.authority.clone(), digest));
        revocations.begin(twice.clone());
        assert!(
            revocations.contains_digest(&other, digest, true) && !revocations.contains_digest(&other, digest, false)
        );
        assert!(!revocations.contains_digest(&scope("quay.io", "org/app"), digest, true));
        for refused in twice {
            revocations.taken(&refused);
            revocations.end(&refused);
        }
        assert!(revocations.is_empty());
    }

    #[test]
    fn what_is_not_known_one_by_one_any_more_refuses_its_registry_and_no_other() {
        let revocations = Revocations::default();
        let refused = begin(&revocations, "b.test", "one/secret");
        let mut made_up: Vec<Revocation> =
            (1..MAX).map(|nth| begin(&revocations, "a.test", &format!("made/up{nth}"))).collect();
        assert!(!revocations.contains(&scope("a.test", "org/app")));
        made_up.push(begin(&revocations, "b.test", "another/secret"));
        made_up.push(begin(&revocations, "a.test", "one/more"));
        assert!(
            revocations.contains(&scope("a.test", "org/app")) && !revocations.contains(&scope("b.test", "org/app"))
        );
        assert!(
            revocations.contains(&scope("b.test", "one/secret"))
                && revocations.contains(&scope("b.test", "another/secret"))
        );
        assert!(revocations.refused().len() <= 3);
        for refused in &made_up {
            assert!(revocations.contains(&scope("a.test", "org/app")));
            revocations.taken(refused);
        }
        revocations.durable();
        assert!(
            !revocations.contains(&scope("a.test", "org/app")) && revocations.contains(&scope("b.test", "one/secret"))
        );
        revocations.taken(&refused);
        revocations.end(&refused);
        assert!(revocations.is_empty());
    }

    #[test]
    fn denials_that_cannot_be_written_are_kept_once_and_coarsened_where_there_are_too_many() {
        let revocations = Revocations::default();
        let lists =
            |authority: &str, repository: &str| Revocation::Lists(scope(authority, repository), "tags".to_owned());
        let scope_of = |authority: &str, repository: &str| Revocation::Scope(scope(authority, repository));
        for _ in 0..3 {
            revocations.keep(lists("b.test", "org/app"));
            revocations.keep(scope_of("b.test", "org/app"));
        }
        assert_eq!(revocations.pending().len(), 2);
        assert!(revocations.contains(&scope("b.test", "org/app")));
        for nth in 2..MAX {
            revocations.keep(lists("a.test", &format!("made/up{nth}")));
        }
        assert_eq!(revocations.pending().len(), MAX);
        revocations.keep(scope_of("b.test", "one/more"));
        let pending = revocations.pending();
        let is_of_all = |change: &&Revocation| matches!(change, Revocation::All(Some(of)) if of.as_str() == "a.test");
        assert_eq!((pending.len(), pending.iter().filter(is_of_all).count()), (4, 1));
        revocations.keep(scope_of("a.test", "another"));
        assert_eq!(revocations.pending().len(), 4, "which covers it");
        let list = lists("a.test", "org/app");
        revocations.taken(&list);
        revocations.end(&list);
        assert!(revocations.contains(&scope("a.test", "org/app")), "a list of it that is not there changes nothing");
        revocations.durable();
        assert!(revocations.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_is_known_however_many_registries_there_are() {
        let revocations = Revocations::default();
        for nth in 0..MAX + 10 {
            revocations.begin([Revocation::All(Some(format!("{nth}.test").parse().unwrap()))]);
        }
        assert!(revocations.refused().len() <= MAX + 1);
        assert!(revocations.contains(&scope("b.test", "org/app")), "what is beyond it is asked for");
    }
}
