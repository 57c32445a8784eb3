//! The hash of a partial file, in order, while it is being written elsewhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::{Digest, Hasher};

use super::{READ_CHUNK, off_runtime};

/// Bytes in one step, so that what is done is known in time.
const STEP: u64 = 16 * READ_CHUNK as u64;

/// Follows the bytes of a partial file from its beginning. What is at hand in memory is taken from there, the rest is
/// read back.
#[derive(Debug)]
pub struct Hashing {
    file: Arc<File>,
    /// Taken while a blocking job holds it; a job that failed does not bring it back.
    hasher: Option<Hasher>,
    done: u64,
}

impl Hashing {
    pub(super) const fn new(file: Arc<File>, hasher: Hasher) -> Self {
        Self { file, hasher: Some(hasher), done: 0 }
    }

    /// Bytes hashed so far.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Hashes some of the bytes up to `end`, all of which are in the file; up to 4 MiB. `fresh` are positions and bytes of
    /// the same file, ascending: those that are used, or are behind, are removed.
    pub async fn advance(&mut self, end: u64, fresh: &mut VecDeque<(u64, Bytes)>) -> io::Result<()> {
        let end = end.min(self.done + STEP);
        let mut at_hand = Vec::new();
        while fresh.front().is_some_and(|(at, bytes)| at + bytes.len() as u64 <= end) {
            at_hand.extend(fresh.pop_front());
        }
        let mut hasher = self.hasher.take().ok_or_else(lost)?;
        let (file, from) = (Arc::clone(&self.file), self.done);
        let hasher = off_runtime(move || {
            let mut at = from;
            for (start, bytes) in at_hand {
                if start < at {
                    continue;
                }
                read_back(&file, &mut hasher, at, start)?;
                hasher.update(&bytes);
                at = start + bytes.len() as u64;
            }
            read_back(&file, &mut hasher, at, end)?;
            Ok(hasher)
        })
        .await?;
        self.hasher = Some(hasher);
        self.done = end;
        Ok(())
    }

    /// The bytes behind what is hashed, just written.
    pub(super) fn took(&mut self, hasher: Hasher, bytes: u64) {
        self.hasher = Some(hasher);
        self.done += bytes;
    }

    pub(super) fn take(&mut self) -> io::Result<Hasher> {
        self.hasher.take().ok_or_else(lost)
    }

    /// The digest of what is hashed.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        Ok(self.hasher.clone().ok_or_else(lost)?.finish())
    }
}

fn read_back(file: &File, hasher: &mut Hasher, mut at: u64, end: u64) -> io::Result<()> {
    if at >= end {
        return Ok(());
    }
    let mut buffer = vec![0; READ_CHUNK];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(READ_CHUNK).min(READ_CHUNK);
        let piece = buffer.get_mut(..want).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += want as u64;
    }
    Ok(())
}

fn lost() -> io::Error {
    io::Error::other("an earlier step on this file failed")
}
