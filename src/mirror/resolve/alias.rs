//! Tags that an operator has made other names of tags elsewhere.

use super::{Target, scope_of};
use crate::index::{AliasTarget, Index, aliases_in};

/// Where else what a repository does not have may be: where its aliases point. Asked only after a pull has failed.
pub(in crate::mirror) async fn targets(index: &Index, target: &Target) -> Vec<Target> {
    let scope = scope_of(&target.authority, &target.repository);
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
