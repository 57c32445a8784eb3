//! A moved tag stays where it was until the new digest is old enough (`min_age`).

use crate::clock::Timestamp;
use crate::index::{HistoryEntry, Scope, TagRow};
use crate::metrics::{ByResult, Metrics};
use crate::mirror::registries::Registry;
use crate::oci::{Digest, Tag};

/// What upstream names.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) now: Timestamp,
    /// An operator wants it, however young it is.
    pub(super) takes_young: bool,
}

/// Where a tag stays.
pub(super) struct Older {
    pub(super) digest: Digest,
    pub(super) row: TagRow,
}

/// The older digest, and the row that says since when a newer one was seen; `None` if the newer one is taken. A tag that was
/// never seen, or that was gone, has nothing older to stay at. What upstream names no more is forgotten: only a digest that
/// it has named all the while gets old.
pub(super) fn older(
    registry: &Registry,
    metrics: &Metrics,
    (scope, tag): (&Scope, &Tag),
    before: Option<&TagRow>,
    found: &Found,
) -> Option<Older> {
    let rule = registry.policy.min_age(&scope.repository, tag);
    let before = before.filter(|_| !rule.age.is_zero())?;
    let digest = before.digest.filter(|digest| *digest != found.digest)?;
    let known = before.waiting.as_ref().filter(|waiting| waiting.digest == found.digest);
    // A time that lies ahead was written down before the clock was set back.
    let since = known.map_or(found.now, |waiting| waiting.since.min(found.now));
    let is_old = found.now.since(since) >= rule.age;
    let result = match (is_old || found.takes_young, rule.is_audit) {
        (true, _) => "taken",
        (false, true) => "audit",
        (false, false) => "held_back",
    };
    // A digest that waits is told of once.
    if result != "held_back" || known.is_none() {
        let labels = ByResult { authority: registry.name().to_owned(), result };
        metrics.young_tags.get_or_create(&labels).inc();
        let (repository, newer, seen) = (&scope.repository, found.digest, since.rfc3339());
        tracing::info!(authority = registry.name(), %repository, %tag, %digest, %newer, seen, result,
            "a tag has moved, and `min_age` was looked at: `refresh --now` takes the newer digest");
    }
    let waiting = Some(HistoryEntry { digest: found.digest, since });
    let row = TagRow { checked: found.now, hold_until: Timestamp::default(), waiting, ..before.clone() };
    (result == "held_back").then_some(Older { digest, row })
}
