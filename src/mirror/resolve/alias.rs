//! Tags that an operator has made other names of tags elsewhere.

use super::Target;
use crate::index::{AliasTarget, Index, Scope, aliases_in};

/// Where else what a repository does not have may be: where its aliases point. Asked only after a pull has failed.
pub(in crate::mirror) async fn targets(index: &Index, target: &Target) -> Vec<Target> {
    let scope = Scope { domain: 0, authority: target.authority.clone(), repository: target.repository.clone() };
    // The index has logged a failure; the pull fails as it did.
    let found = aliases_in(index, &scope).await.unwrap_or_default();
    let mut targets: Vec<Target> = Vec::new();
    for AliasTarget { authority, repository, .. } in found {
        let other = Target { authority, repository, via: target.via.clone() };
        if other != *target && !targets.contains(&other) {
            targets.push(other);
        }
    }
    targets
}
