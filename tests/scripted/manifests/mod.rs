//! Which upstream, manifests, tags, lists: what is promised about everything that is not a blob.

mod cold;
mod conditional;
mod content;
mod denied;
mod errors;
mod freshness;
mod freshness_rules;
mod heads;
mod hot;
mod limits;
mod loops;
mod min_age;
mod no_cache;
mod offline;
mod referrers;
mod routing;
mod rules;
mod separation;
mod stale;
mod stale_bounds;
mod tag_lists;
mod tag_lists_held;
mod writes;

use crate::support::upstream::Upstream;

/// The table of one upstream, with these lines in it.
fn upstream(authority: &str, registry: &Upstream, lines: &str) -> String {
    format!("[upstreams.\"{authority}\"]\nurl = \"{}\"\n{lines}\n", registry.url())
}
