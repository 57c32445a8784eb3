//! All facts in one file, out of an index and into another.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write};
use std::sync::Arc;

use super::framing::{self, Line, Mark};
use super::snapshot;
use crate::index::facts::{Change, Fact};
use crate::index::{Index, IndexError};

/// Facts that are put back in one step.
const BATCH: usize = 5000;

/// The outcome of a restore, in facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    pub put_back: u64,
    /// The index knows something newer, or the bytes are not there.
    pub superfluous: u64,
    /// Facts of kinds that this release does not know.
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

/// Writes all facts of one moment to `out`, and returns how many. Other work goes on.
pub async fn back_up(index: &Index, out: impl Write + Send + 'static) -> Result<u64, IndexError> {
    index
        .read(move |from| {
            let mut out = BufWriter::with_capacity(256 * 1024, out);
            let facts = snapshot::write(from, &mut out, &|| true)?;
            out.flush().map_err(IndexError::Log)?;
            Ok(facts)
        })
        .await
}

/// Puts back what a backup knows and this index does not. If both know something, the newer one stays. The whole file is
/// read first: one that is cut short or damaged changes nothing. All is durable when it returns.
pub async fn restore(index: &Arc<Index>, backup: File) -> Result<Restored, RestoreError> {
    let index = Arc::clone(index);
    let handle = tokio::runtime::Handle::current();
    let work = move || {
        let mut backup = BufReader::with_capacity(1 << 20, backup);
        count(&mut backup)?;
        backup.rewind()?;
        let (mut restored, mut batch, mut buffer) = (Restored::default(), Vec::new(), Vec::new());
        while let Some(line) = framing::read(&mut backup, &mut buffer)? {
            match line {
                Line::Fact(fact) => batch.push(*fact),
                Line::Unknown => restored.unknown += 1,
                Line::Mark(_) | Line::Damaged => {}
            }
            if batch.len() >= BATCH {
                handle.block_on(put_back(&index, &mut batch, &mut restored))?;
            }
        }
        handle.block_on(put_back(&index, &mut batch, &mut restored))?;
        handle.block_on(index.apply_durably(Vec::new()))?;
        Ok(restored)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(IndexError::Closed.into()))
}

async fn put_back(index: &Index, batch: &mut Vec<Fact>, restored: &mut Restored) -> Result<(), IndexError> {
    let known = std::mem::take(batch);
    let (of_use, superfluous) = index
        .read(move |from| {
            let (mut of_use, mut superfluous) = (Vec::new(), 0);
            for fact in known {
                if fact.is_news(from)? { of_use.push(Change::from(fact)) } else { superfluous += 1 }
            }
            Ok((of_use, superfluous))
        })
        .await?;
    restored.put_back += of_use.len() as u64;
    restored.superfluous += superfluous;
    index.apply(of_use).await
}

/// The facts of a backup, if it is whole. Blocking.
pub fn count_backup(backup: File) -> Result<u64, RestoreError> {
    count(&mut BufReader::with_capacity(1 << 20, backup))
}

/// Counts facts from the first line to the last.
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
            Some(Line::Mark(Mark::RoadsteadFacts(_) | Mark::RemoveBlob { .. })) => return Err(RestoreError::NoBackup),
            Some(Line::Damaged) => return Err(RestoreError::Damaged("a line is not what was written")),
            None => return Err(RestoreError::Damaged("its end is missing")),
        }
    }
}
