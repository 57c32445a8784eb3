//! Marks of what pins reach: they keep content out of the order.

use redb::{ReadableTable as _, WriteTransaction};

use super::{EvictionOrder, ReadChildren as _, seconds};
use crate::clock::Timestamp;
use crate::index::schema::{self, CHILDREN, LAST, REFERRERS};
use crate::index::{IndexError, Scope};
use crate::oci::Digest;

/// Marks a manifest, what it lists at any depth, and what refers to it.
pub(in crate::index) fn mark(
    to: &WriteTransaction,
    scope: &Scope,
    root: Digest,
    at: Timestamp,
) -> Result<(), IndexError> {
    reach(to, Some(scope), &root.to_string(), seconds(at))
}

/// The same for what came to a pinned manifest later.
pub(in crate::index) fn reach(
    to: &WriteTransaction,
    scope: Option<&Scope>,
    root: &str,
    at: u64,
) -> Result<(), IndexError> {
    let listed = to.open_table(CHILDREN)?;
    let referrers = to.open_table(REFERRERS)?;
    let mut order = EvictionOrder::open(to)?;
    let mut left = vec![root.to_owned()];
    let mut is_root = true;
    while let Some(name) = left.pop() {
        // A mark of this very time has its reach marked as well, and manifests may refer to each other in a circle: only the
        // first look at the root goes on from there, whatever lists it again.
        if !order.pin(&name, at)? && !std::mem::take(&mut is_root) {
            continue;
        }
        is_root = false;
        left.extend(listed.children(&name)?.iter().map(ToString::to_string));
        if let Some(scope) = scope {
            let (first, last) = (format!("{name} "), format!("{name} {LAST}"));
            for entry in referrers.range(schema::range(scope, &first, &last))? {
                left.extend(entry?.0.value().3.split_once(' ').map(|(_, referrer)| referrer.to_owned()));
            }
        }
    }
    Ok(())
}
