//! Changes that are kept back while they cannot be written, in order.

use std::collections::{HashMap, HashSet};

use super::effective_denials::{PendingGrants, opens};
use crate::index::{Change, Scope};
use crate::oci::{Authority, Digest};

/// Changes kept back; more are dropped, and cost a request each. About as many names again of what takes rights away: beyond
/// that, the grants of the registry that has the most of them are dropped as a whole.
const MAX: usize = 100_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    changes: Vec<Change>,
    /// How many were not kept.
    pub(super) dropped: usize,
    /// What they open.
    opened: PendingGrants,
    /// Scopes, lists and digests denied behind the last grant to them: once more says nothing new.
    scopes: HashSet<Scope>,
    lists: HashMap<Scope, HashSet<String>>,
    digests: HashSet<(u32, Authority, Digest)>,
    /// Of them, those that are no denials.
    losable: usize,
    /// How many names the denials among them have, by registry.
    denied: HashMap<Authority, usize>,
    /// And in all.
    names: usize,
    wide: HashSet<Authority>,
    /// No registry's grants outlive this.
    is_all: bool,
}

impl Held {
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) const fn opened(&self) -> &PendingGrants {
        &self.opened
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.covers(&change) {
            self.dropped += usize::from(!change.is_denial());
            return;
        }
        if change.is_denial() {
            return self.deny(change);
        }
        if self.losable >= MAX {
            self.dropped += 1;
            return;
        }
        if let Some((scope, digest)) = opens(&change) {
            self.scopes.remove(scope);
            if let Some(digest) = digest {
                self.digests.remove(&(scope.domain, scope.authority.clone(), digest));
            }
            self.lists.remove(scope);
            self.opened.note(&change);
        }
        self.losable += 1;
        self.changes.push(change);
    }

    fn deny(&mut self, change: Change) {
        // Operators take pins back, and do not make up any number of them.
        if authority_of(&change).is_some() && self.names + self.wide.len() >= MAX {
            if !self.deny_most() {
                self.dropped += 1;
                return;
            }
            if self.covers(&change) {
                return;
            }
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "of the other denials each says something new")]
        let (change, names) = match change {
            Change::DropGrants { scope } => {
                if !self.scopes.insert(scope.clone()) {
                    return;
                }
                (Change::DropGrants { scope }, 1)
            }
            Change::DropPublicGrants { scope, mut digests } => {
                digests.retain(|digest| self.digests.insert((scope.domain, scope.authority.clone(), *digest)));
                if digests.is_empty() {
                    return;
                }
                let names = digests.len();
                (Change::DropPublicGrants { scope, digests }, names)
            }
            // Nothing was put there since.
            Change::DropLists { ref scope, .. } if self.scopes.contains(scope) => return,
            Change::DropLists { scope, family } => {
                if !self.lists.entry(scope.clone()).or_default().insert(family.clone()) {
                    return;
                }
                (Change::DropLists { scope, family }, 1)
            }
            Change::DropAllGrants { authority } => return self.deny_all(authority),
            other => (other, 1),
        };
        if let Some(authority) = authority_of(&change) {
            *self.denied.entry(authority.clone()).or_default() += names;
            self.names += names;
        }
        self.changes.push(change);
    }

    /// Whether there is room then: not where each registry has one name only.
    fn deny_most(&mut self) -> bool {
        let most = self.denied.iter().max_by_key(|(_, names)| **names);
        let Some(most) = most.filter(|(_, names)| **names > 1).map(|(most, _)| most.clone()) else { return false };
        self.deny_all(Some(most));
        true
    }

    /// What is not remembered one by one is dropped with its whole registry.
    fn deny_all(&mut self, authority: Option<Authority>) {
        match &authority {
            Some(authority) => drop(self.wide.insert(authority.clone())),
            None => self.is_all = true,
        }
        let mut kept = std::mem::take(&mut self.changes);
        // Other registries that are dropped as a whole stay so, unless all are.
        let is_needed = |change: &Change| matches!(change, Change::DropAllGrants { .. }) && !self.is_all;
        kept.retain(|change| is_needed(change) || !self.covers(change));
        let losable = kept.iter().filter(|change| !change.is_denial()).count();
        self.dropped += self.losable - losable;
        self.losable = losable;
        if let Some(authority) = &authority {
            self.names -= self.denied.remove(authority).unwrap_or(0);
            self.opened.forget(authority);
            self.scopes.retain(|scope| scope.authority != *authority);
            self.lists.retain(|scope, _| scope.authority != *authority);
            self.digests.retain(|(_, of, _)| of != authority);
        } else {
            // Nothing of grants is pushed from here on.
            (self.names, self.denied) = (0, HashMap::new());
        }
        kept.push(Change::DropAllGrants { authority });
        self.changes = kept;
    }

    /// Whether a registry that is denied as a whole makes it void: it grants there, or denies.
    fn covers(&self, change: &Change) -> bool {
        let of_grants = opens(change).is_some() || matches!(change, Change::UseGrant { .. }) || change.is_denial();
        let is_wide = |authority| self.is_all || self.wide.contains(authority);
        of_grants && authority_of(change).map_or(self.is_all && !is_of_a_pin(change), is_wide)
    }
}

const fn is_of_a_pin(change: &Change) -> bool {
    matches!(change, Change::RemovePin { .. })
}

fn authority_of(change: &Change) -> Option<&Authority> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other denial is of one registry")]
    match change {
        Change::DropGrants { scope }
        | Change::DropLists { scope, .. }
        | Change::DropPublicGrants { scope, .. }
        | Change::UseGrant { scope, .. } => Some(&scope.authority),
        Change::DropAllGrants { authority } => authority.as_ref(),
        change => opens(change).map(|(scope, _)| &scope.authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn scope(authority: &str, repository: &str) -> Scope {
        Scope { domain: 0, authority: authority.parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn refused(authority: &str, repository: &str) -> Change {
        Change::DropGrants { scope: scope(authority, repository) }
    }

    fn granted(authority: &str, whole_authority: bool) -> Change {
        let digest = Digest::of(Algorithm::Sha256, b"");
        Change::GrantBlob { scope: scope(authority, "org/app"), whole_authority, digest, day: 1 }
    }

    #[test]
    fn a_refusal_is_kept_once_until_something_is_granted_again() {
        let mut held = Held::default();
        let public = || Change::DropPublicGrants {
            scope: scope("a.test", "org/app"),
            digests: vec![Digest::of(Algorithm::Sha256, b"")],
        };
        for _ in 0..3 {
            held.push(refused("a.test", "org/app"));
            held.push(public());
        }
        assert_eq!(held.changes().len(), 2);
        held.push(granted("a.test", true));
        held.push(refused("a.test", "org/app"));
        held.push(public());
        assert_eq!(held.changes().len(), 5, "each behind the grant that it takes back");
    }

    #[test]
    fn refusals_beyond_a_bound_drop_the_grants_of_the_registry_with_the_most() {
        let mut held = Held::default();
        held.push(granted("b.test", false));
        for nth in 0..MAX {
            held.push(refused("a.test", &format!("made/up{nth}")));
        }
        assert_eq!(held.changes().len(), MAX + 1);
        held.push(granted("a.test", false));
        // Another registry's, which has a few only.
        held.push(refused("b.test", "one/more"));
        let [Change::GrantBlob { .. }, Change::DropAllGrants { authority }, Change::DropGrants { scope }] =
            held.changes()
        else {
            panic!("{:?}", held.changes().len());
        };
        assert_eq!(authority.as_ref().map(Authority::as_str), Some("a.test"));
        assert_eq!(scope.authority.as_str(), "b.test");
        held.push(granted("a.test", false));
        held.push(refused("a.test", "another"));
        assert_eq!((held.changes().len(), held.dropped), (3, 2), "nothing is granted there until it is written");
    }

    #[test]
    fn lists_that_are_gone_are_kept_once_until_one_is_put_again() {
        let mut held = Held::default();
        let gone = |family: &str| Change::DropLists { scope: scope("a.test", "org/app"), family: family.to_owned() };
        for _ in 0..=MAX {
            held.push(gone("tags"));
        }
        held.push(gone("referrers"));
        assert_eq!(held.changes().len(), 2);
        let row = crate::index::ListRow {
            content: String::new(),
            checked: crate::clock::Timestamp::default(),
            hold_until: crate::clock::Timestamp::default(),
        };
        held.push(Change::PutList { scope: scope("a.test", "org/app"), list: "tags".to_owned(), row });
        held.push(gone("tags"));
        assert_eq!(held.changes().len(), 4);
        held.push(refused("a.test", "org/app"));
        held.push(gone("another"));
        assert_eq!(held.changes().len(), 5, "all of its lists go with its grants");
    }

    #[test]
    fn a_registry_that_is_dropped_as_a_whole_stays_so_whatever_follows() {
        let mut held = Held::default();
        let dropped = |held: &Held| {
            let dropped = held.changes().iter().map(|change| {
                let Change::DropAllGrants { authority } = change else { panic!("{change:?}") };
                authority.as_ref().map(ToString::to_string)
            });
            dropped.collect::<Vec<_>>()
        };
        let all = |authority: &str| Change::DropAllGrants { authority: Some(authority.parse().unwrap()) };
        held.push(refused("a.test", "org/app"));
        held.push(all("a.test"));
        held.push(all("b.test"));
        held.push(all("a.test"));
        assert_eq!(dropped(&held), [Some("a.test".to_owned()), Some("b.test".to_owned())]);
        held.push(Change::DropAllGrants { authority: None });
        assert_eq!(dropped(&held), [None], "which covers them");
    }

    #[test]
    fn what_may_be_lost_is_dropped_where_there_is_too_much() {
        let mut held = Held::default();
        for _ in 0..=MAX {
            held.push(granted("a.test", false));
        }
        held.push(refused("b.test", "org/app"));
        assert_eq!((held.changes().len(), held.dropped), (MAX + 1, 1));
    }
}
