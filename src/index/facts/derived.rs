//! Rows that only the database has: access times are learnt again, and marks follow from the pins.

use redb::{ReadableTable as _, WriteTransaction};

use super::{BytesMoved, Kind};
use crate::clock::Timestamp;
use crate::index::eviction_order::{self, Access, EvictionOrder, seconds};
use crate::index::schema::{BLOBS, OwnedKey, REFERRED, REFERRERS};
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

/// Referrers as [`crate::index::gone_referrers`] found them, to be dropped if they are still not stored.
#[derive(Debug, Clone)]
pub struct DropReferrers(pub Vec<OwnedKey>);

impl Kind for DropReferrers {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let (mut rows, blobs) = (to.open_table(REFERRERS)?, to.open_table(BLOBS)?);
        let mut referred = to.open_table(REFERRED)?;
        for (domain, authority, repository, both) in &self.0 {
            let parts = both.split_once(' ');
            if let Some((_, referrer)) = parts
                && blobs.get(referrer)?.is_some()
            {
                continue;
            }
            rows.remove((*domain, authority.as_str(), repository.as_str(), both.as_str()))?;
            if let Some((subject, referrer)) = parts {
                referred.remove((referrer, *domain, authority.as_str(), repository.as_str(), subject))?;
            }
        }
        Ok(())
    }

    fn weight(&self) -> usize {
        self.0.len()
    }
}
