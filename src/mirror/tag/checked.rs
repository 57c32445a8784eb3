//! What is known of a tag, and what a check has found.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Manifest;
use crate::clock::Timestamp;
use crate::coalesce::Role;
use crate::index::{AliasTarget, TagRow};
use crate::mirror::answer::{ManifestAnswer, Outcome, Provenance};
use crate::oci::Digest;

/// A tag whose manifest may be served.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) row: Arc<TagRow>,
    pub(super) manifest: Manifest,
}

/// The outcome of a check.
#[derive(Debug, Clone)]
pub(in crate::mirror) struct Checked {
    pub(super) manifest: Manifest,
    pub(super) outcome: Outcome,
    /// When upstream last said what the tag points to.
    pub(super) at: Timestamp,
    pub(super) stale_because: Option<String>,
    /// The younger digest that upstream names.
    pub(super) held_back: Option<String>,
}

/// How long a fresh tag is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) enum Belief {
    /// As long as the policy says.
    Usual,
    /// The client wants it checked: a check is believed for [`MOMENT`].
    AMoment,
    /// An operator wants it checked now.
    Not,
    /// An operator wants what upstream names now, however young it is.
    NotAndTake,
}

impl Belief {
    /// Whether upstream is asked, whatever is known.
    pub(super) const fn asks_anyway(self) -> bool {
        matches!(self, Self::Not | Self::NotAndTake)
    }
}

/// Clients have each tag checked at most so often.
pub(super) const MOMENT: Duration = Duration::from_secs(1);

pub(super) enum Known {
    Answer(Checked),
    /// Upstream has to be asked; the copy that is held, if any.
    Ask(Option<Copy>),
    /// An operator has said where it points.
    Pinned(Digest),
    /// An operator has made it another name of this tag.
    Alias(AliasTarget),
}

impl Checked {
    pub(super) fn seen_by(self, role: Role, now: Timestamp) -> ManifestAnswer {
        let (outcome, age) = (self.outcome.seen_by(role), Some(now.since(self.at)));
        self.manifest.answer(Provenance { outcome, age, stale_because: self.stale_because, held_back: self.held_back })
    }
}
