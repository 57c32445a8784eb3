//! All facts in one file, out of an index and into another.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write};
use std::sync::Arc;

use redb::ReadTransaction;
use serde::de::DeserializeOwned;

use super::framing::{self, Line, Mark};
use super::snapshot;
use crate::index::pins::PINS;
use crate::index::row::{BlobRow, GrantRow, ListRow, TagRow};
use crate::index::schema::{
    BLOB_GRANTS, BLOBS, CHILDREN, Key, LISTS, MANIFEST_GRANTS, MANIFEST_TYPES, REFERRERS, ScopedKey, TAGS,
};
use crate::index::unrecoverable;
use crate::index::{Change, Index, IndexError};

/// Facts that are put back in one step.
const BATCH: usize = 5000;

/// What became of a backup's facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    pub put_back: u64,
    /// What is known is newer, or the bytes are not there.
    pub superfluous: u64,
    /// Of kinds that this release does not know.
    pub unknown: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("it is no backup of roadstead's facts")]
    NoBackup,
    #[error("it was written by a newer release (form {0}): restore it with that one")]
    Newer(u32),
    #[error("it is not whole: {0}")]
    Damaged(&'static str),
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Index {
    /// Writes all facts of one moment to `out`, and returns how many. Other work goes on.
    pub async fn back_up(&self, out: impl Write + Send + 'static) -> Result<u64, IndexError> {
        self.read(move |from| {
            let mut out = BufWriter::with_capacity(256 * 1024, out);
            let facts = snapshot::write(from, &mut out, &|| true)?;
            out.flush().map_err(IndexError::Log)?;
            Ok(facts)
        })
        .await
    }

    /// Puts back what a backup knows and this index does not; where both know something, the newer one stays. The whole file
    /// is looked at first: one that is cut short or damaged changes nothing. Durable when it returns.
    pub async fn restore(self: &Arc<Self>, backup: File) -> Result<Restored, RestoreError> {
        let index = Arc::clone(self);
        let handle = tokio::runtime::Handle::current();
        let work = move || {
            let mut backup = BufReader::with_capacity(1 << 20, backup);
            count(&mut backup)?;
            backup.rewind()?;
            let (mut restored, mut batch, mut buffer) = (Restored::default(), Vec::new(), Vec::new());
            while let Some(line) = framing::read(&mut backup, &mut buffer)? {
                match line {
                    Line::Fact(change) => batch.push(*change),
                    Line::Unknown => restored.unknown += 1,
                    Line::Mark(_) | Line::Damaged => {}
                }
                if batch.len() >= BATCH {
                    handle.block_on(index.put_back(&mut batch, &mut restored))?;
                }
            }
            handle.block_on(index.put_back(&mut batch, &mut restored))?;
            handle.block_on(index.apply_durably(Vec::new()))?;
            Ok(restored)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(IndexError::Closed.into()))
    }

    async fn put_back(&self, batch: &mut Vec<Change>, restored: &mut Restored) -> Result<(), IndexError> {
        let known = std::mem::take(batch);
        let (of_use, superfluous) = self
            .read(move |from| {
                let (mut of_use, mut superfluous) = (Vec::new(), 0);
                for change in known {
                    if is_news(&change, from)? { of_use.push(change) } else { superfluous += 1 }
                }
                Ok((of_use, superfluous))
            })
            .await?;
        restored.put_back += of_use.len() as u64;
        restored.superfluous += superfluous;
        self.apply(of_use).await
    }
}

/// The facts of a backup, if it is whole. Blocking.
pub fn count_backup(backup: File) -> Result<u64, RestoreError> {
    count(&mut BufReader::with_capacity(1 << 20, backup))
}

/// From the first line to the last.
fn count(backup: &mut BufReader<File>) -> Result<u64, RestoreError> {
    let mut buffer = Vec::new();
    match framing::read(backup, &mut buffer)? {
        Some(Line::Mark(Mark::RoadsteadFacts(version))) if version > framing::VERSION => {
            return Err(RestoreError::Newer(version));
        }
        Some(Line::Mark(Mark::RoadsteadFacts(_))) => {}
        _ => return Err(RestoreError::NoBackup),
    }
    let mut counted = 0;
    loop {
        match framing::read(backup, &mut buffer)? {
            Some(Line::Fact(_) | Line::Unknown) => counted += 1,
            Some(Line::Mark(Mark::End { facts })) => {
                let is_end = facts == counted && backup.fill_buf()?.is_empty();
                return if is_end {
                    Ok(counted)
                } else {
                    Err(RestoreError::Damaged("its facts are not as many as it says"))
                };
            }
            Some(Line::Mark(Mark::RoadsteadFacts(_))) => return Err(RestoreError::NoBackup),
            Some(Line::Damaged) => return Err(RestoreError::Damaged("a line is not what was written")),
            None => return Err(RestoreError::Damaged("its end is missing")),
        }
    }
}

/// Whether the index does not know it, or knows something older.
fn is_news(change: &Change, from: &ReadTransaction) -> Result<bool, IndexError> {
    Ok(match change {
        Change::PutTag { scope, tag, row } => {
            scoped::<TagRow>(from, TAGS, &Key::tag(scope, tag))?.is_none_or(|known| known.checked < row.checked)
        }
        Change::PutList { scope, list, row } => {
            scoped::<ListRow>(from, LISTS, &Key::list(scope, list))?.is_none_or(|known| known.checked < row.checked)
        }
        Change::PutManifestType { domain, authority, digest, .. } => {
            let name = digest.to_string();
            from.open_table(MANIFEST_TYPES)?.get((*domain, authority.as_str(), name.as_str(), ""))?.is_none()
        }
        Change::GrantManifest { scope, whole_authority, digest, day, .. } => {
            let key = Key::digest(scope, *digest, *whole_authority);
            let known = scoped::<GrantRow>(from, MANIFEST_GRANTS, &key)?;
            known.is_none_or(|known| known.used_day < *day || known.may_add(&scope.repository))
        }
        Change::GrantBlob { scope, whole_authority, digest, day } => {
            let key = Key::digest(scope, *digest, *whole_authority);
            scoped::<GrantRow>(from, BLOB_GRANTS, &key)?.is_none_or(|known| known.used_day < *day)
        }
        // A backup brings no bytes: of those that are here it may know whose they are.
        Change::PutBlob { digest, row } => {
            let blobs = from.open_table(BLOBS)?;
            let known = blobs.get(digest.to_string().as_str())?;
            let known = known.and_then(|known| serde_json::from_slice::<BlobRow>(known.value()).ok());
            known.is_some_and(|known| known.origin.is_none() && known.size_bytes == row.size_bytes)
        }
        // No manifest can name its own digest: whoever wrote that made it up.
        Change::PutChildren { manifest, children } if children.contains(manifest) => false,
        Change::PutChildren { manifest, .. } => {
            from.open_table(CHILDREN)?.get(manifest.to_string().as_str())?.is_none()
        }
        Change::PutReferrer { scope, subject, referrer, .. } => {
            let key = Key::referrer(scope, *subject, *referrer);
            from.open_table(REFERRERS)?.get(key.as_tuple())?.is_none()
        }
        Change::PutUnrecoverable { digest, .. } => unrecoverable::is_missing(&from.open_table(BLOBS)?, *digest)?,
        Change::PutPin { pin, .. } => from.open_table(PINS)?.get(pin.as_str())?.is_none(),
        // Backups hold what is, and not how it came about.
        Change::StampTag { .. }
        | Change::DropLists { .. }
        | Change::DropGrants { .. }
        | Change::DropPublicGrants { .. }
        | Change::DropAllGrants { .. }
        | Change::DropExpired { .. }
        | Change::UseGrant { .. }
        | Change::RemoveBlob { .. }
        | Change::RemoveMissing { .. }
        | Change::NoteAccesses(_)
        | Change::NoteObtainable { .. }
        | Change::BeginEviction(_)
        | Change::EndEviction { .. }
        | Change::RemovePin { .. }
        | Change::MarkPinned { .. }
        | Change::Unmark { .. } => false,
    })
}

fn scoped<T: DeserializeOwned>(
    from: &ReadTransaction,
    table: redb::TableDefinition<'_, ScopedKey, &'static [u8]>,
    key: &Key,
) -> Result<Option<T>, IndexError> {
    Ok(from.open_table(table)?.get(key.as_tuple())?.and_then(|row| serde_json::from_slice(row.value()).ok()))
}
