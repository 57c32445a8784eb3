//! Facts that outlive the index: journals and snapshots beside the blobs.
//!
//! ```text
//! <root>/facts/journal-<n>.jsonl    facts in the order in which they were written down (see `framing`)
//! <root>/facts/snapshot-<n>.jsonl   all facts from before journal n
//! ```
//!
//! The newest snapshot and the journals from its number on are all that is known. The index remembers how far it has taken
//! the journals in, in the transaction that took it: what lies behind is taken in again at the next start.

pub(super) mod backup;
pub(super) mod framing;
pub(super) mod replay;
pub(super) mod segments;
pub(super) mod snapshot;
