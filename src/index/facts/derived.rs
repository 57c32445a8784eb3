//! Rows that only the database has: access times are learnt again, and marks follow from the pins.

use redb::WriteTransaction;

use super::{BytesMoved, Kind};
use crate::clock::Timestamp;
use crate::index::eviction_order::{self, Access, EvictionOrder, seconds};
use crate::index::{IndexError, Scope};
use crate::oci::Digest;

/// Accesses since they were last noted.
#[derive(Debug, Clone)]
pub struct NoteAccesses(pub Vec<Access>);

impl Kind for NoteAccesses {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        eviction_order::note(to, &self.0)
    }

    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// An authority has proven that it has these bytes: it can be asked for them again.
#[derive(Debug, Clone)]
pub struct NoteObtainable {
    pub digest: Digest,
    pub scope: Scope,
}

impl Kind for NoteObtainable {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        EvictionOrder::open(to)?.obtainable(&self.digest.to_string(), self.scope.authority.as_str())
    }

    fn moves_bytes(&self) -> BytesMoved {
        BytesMoved::Origin
    }
}

/// A pin names this manifest: it and all it reaches stay.
#[derive(Debug, Clone)]
pub struct MarkPinned {
    pub scope: Scope,
    pub manifest: Digest,
    pub at: Timestamp,
}

impl Kind for MarkPinned {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        eviction_order::mark(to, &self.scope, self.manifest, self.at)
    }
}

/// Marks as [`crate::index::Index::stale_marks`] found them, to be dropped if they are still as old.
#[derive(Debug, Clone)]
pub struct Unmark {
    pub digests: Vec<Digest>,
    pub before: Timestamp,
}

impl Kind for Unmark {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let mut order = EvictionOrder::open(to)?;
        for digest in &self.digests {
            order.unpin(&digest.to_string(), seconds(self.before))?;
        }
        Ok(())
    }

    fn weight(&self) -> usize {
        self.digests.len()
    }
}
