//! Blobs: bytes that are stored, and that go.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::manifest::drop_referrer;
use super::{BytesMoved, Each, Fact, Kind, unrecoverable};
use crate::clock::Timestamp;
use crate::index::IndexError;
use crate::index::eviction_order::{self, EvictionOrder};
use crate::index::generation::Generations;
use crate::index::schema::{self, BLOBS, CHILDREN, STORED_BYTES, SUMS};
use crate::oci::{Authority, Digest};

/// Bytes that are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    pub size_bytes: u64,
    /// The registry that sent the bytes; `None` if the index was lost since.
    #[serde(default)]
    pub origin: Option<Authority>,
    pub stored: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutBlob {
    pub digest: Digest,
    pub row: BlobRow,
}

impl Kind for PutBlob {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let Self { digest, row } = self;
        let name = digest.to_string();
        let mut row = row.clone();
        if row.origin.is_none() {
            // Whoever finds a file does not know where it came from. That takes nothing from a row that tells it.
            let known: Option<BlobRow> = schema::row_of(&to.open_table(BLOBS)?, *digest)?;
            row.origin = known.filter(|known| known.size_bytes == row.size_bytes).and_then(|known| known.origin);
        }
        let before = to
            .open_table(BLOBS)?
            .insert(name.as_str(), schema::json(&row)?.as_slice())?
            .map_or(0, |old| size_of(old.value()));
        add(to, row.size_bytes, before)?;
        EvictionOrder::open(to)?.put(&name, row.origin.as_ref(), row.stored, row.size_bytes)?;
        // There is a file again: an eviction that has not ended yet must not take its row.
        eviction_order::unmark_evicting(to, &[*digest])?;
        unrecoverable::heal(to, *digest)
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }

    fn moves_bytes(&self) -> BytesMoved {
        BytesMoved::Put(self.digest)
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    /// A backup brings no bytes: of those that are here it may know where they are from.
    fn is_news(&self, from: &ReadTransaction) -> Result<bool, IndexError> {
        let known = schema::row_of(&from.open_table(BLOBS)?, self.digest)?;
        Ok(known.is_some_and(|known: BlobRow| known.origin.is_none() && known.size_bytes == self.row.size_bytes))
    }

    /// Only blobs that were found are there.
    fn outlives_loss(&self, to: &WriteTransaction) -> Result<bool, IndexError> {
        let found = schema::row_of(&to.open_table(BLOBS)?, self.digest)?;
        Ok(found.is_some_and(|found: BlobRow| found.size_bytes == self.row.size_bytes))
    }
}

/// Its file was not there. A row that was written since stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveMissing {
    pub digest: Digest,
    pub row: BlobRow,
}

/// The files of these are about to be removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BeginEviction(pub Vec<Digest>);

/// Those files are gone, or, with `gone: false`, stay after all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndEviction {
    pub digests: Vec<Digest>,
    pub gone: bool,
}

impl Kind for RemoveMissing {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let seen = schema::json(&self.row)?;
        let name = self.digest.to_string();
        let is_same = to.open_table(BLOBS)?.get(name.as_str())?.is_some_and(|now| now.value() == seen);
        if is_same { remove(to, self.digest) } else { Ok(()) }
    }

    fn bump(&self, generations: &Generations) {
        generations.bump_digest(self.digest);
    }

    fn moves_bytes(&self) -> BytesMoved {
        BytesMoved::Removed(vec![self.digest])
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    /// A blob that is found stays, whatever had become of it before.
    fn outlives_loss(&self, _to: &WriteTransaction) -> Result<bool, IndexError> {
        Ok(false)
    }
}

impl Kind for BeginEviction {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        eviction_order::mark_evicting(to, &self.0)
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    fn weight(&self) -> usize {
        self.0.len()
    }

    /// A blob that is found stays, whatever had become of it before.
    fn outlives_loss(&self, _to: &WriteTransaction) -> Result<bool, IndexError> {
        Ok(false)
    }
}

impl Kind for EndEviction {
    fn apply(&self, to: &WriteTransaction) -> Result<(), IndexError> {
        let marked = eviction_order::unmark_evicting(to, &self.digests)?;
        for digest in marked.iter().filter(|_| self.gone) {
            remove(to, *digest)?;
            let name = digest.to_string();
            to.open_table(CHILDREN)?.remove(name.as_str())?;
            drop_referrer(to, &name)?;
        }
        Ok(())
    }

    fn bump(&self, generations: &Generations) {
        for digest in &self.digests {
            generations.bump_digest(*digest);
        }
    }

    fn moves_bytes(&self) -> BytesMoved {
        if self.gone { BytesMoved::Removed(self.digests.clone()) } else { BytesMoved::None }
    }

    fn is_of_bytes(&self) -> bool {
        true
    }

    fn weight(&self) -> usize {
        self.digests.len()
    }

    /// A blob that is found stays, whatever had become of it before.
    fn outlives_loss(&self, _to: &WriteTransaction) -> Result<bool, IndexError> {
        Ok(false)
    }
}

fn remove(to: &WriteTransaction, digest: Digest) -> Result<(), IndexError> {
    let name = digest.to_string();
    let before = to.open_table(BLOBS)?.remove(name.as_str())?.map_or(0, |old| size_of(old.value()));
    add(to, 0, before)?;
    EvictionOrder::open(to)?.remove(&name)
}

fn size_of(row: &[u8]) -> u64 {
    serde_json::from_slice::<BlobRow>(row).map_or(0, |row| row.size_bytes)
}

fn add(to: &WriteTransaction, plus: u64, minus: u64) -> Result<(), IndexError> {
    let mut sums = to.open_table(SUMS)?;
    let now = sums.get(STORED_BYTES)?.map_or(0, |sum| sum.value());
    sums.insert(STORED_BYTES, now.saturating_add(plus).saturating_sub(minus))?;
    Ok(())
}

pub(super) fn all(from: &ReadTransaction, each: Each<'_>) -> Result<(), IndexError> {
    schema::each_of(&from.open_table(BLOBS)?, |digest, row| each(Fact::PutBlob(PutBlob { digest, row })))
}
