//! The section `[who]`.

use std::time::Duration;

use crate::config::section::Section;
use crate::server::WhoSettings;

const DEFAULT_KEEP: Duration = Duration::from_hours(30 * 24);
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// `None` without the section: nothing is recorded then.
pub(in crate::config) fn check(root: &Section<'_>) -> Option<WhoSettings> {
    let is_there = root.has("who");
    let section = root.section("who");
    let keep = section.duration("keep").unwrap_or(DEFAULT_KEEP);
    if keep.is_zero() {
        section.problem("keep", "must be longer than zero; without `[who]`, nothing is recorded");
    }
    let max_bytes = section.size("max_size").unwrap_or(DEFAULT_MAX_BYTES);
    section.finish();
    is_there.then_some(WhoSettings { keep, max_bytes })
}
