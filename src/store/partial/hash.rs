//! The hash of a partial file, whose bytes are taken in order. Nothing here is asynchronous: it runs where blocking is
//! allowed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::{Digest, Hasher};

use super::super::READ_CHUNK;

/// Bytes of the file from its beginning, as far as they are hashed.
#[derive(Debug)]
pub struct Hashing {
    file: Arc<File>,
    hasher: Hasher,
    done: u64,
    buffer: Vec<u8>,
}

impl Hashing {
    pub(super) const fn new(file: Arc<File>, hasher: Hasher) -> Self {
        Self { file, hasher, done: 0, buffer: Vec::new() }
    }

    /// Bytes hashed so far.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Hashes the bytes that lie behind what is hashed, which the caller has at hand.
    pub(super) fn take(&mut self, bytes: &Bytes) {
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
    }

    /// Hashes some of the bytes up to `end`, read back from the file, where all of them are.
    pub(super) fn read_back(&mut self, end: u64) -> io::Result<()> {
        self.buffer.resize(READ_CHUNK, 0);
        let want = usize::try_from(end - self.done).unwrap_or(READ_CHUNK).min(READ_CHUNK);
        let piece = self.buffer.get_mut(..want).unwrap_or_default();
        self.file.read_exact_at(piece, self.done)?;
        self.hasher.update(piece);
        self.done += want as u64;
        Ok(())
    }

    /// The digest of what is hashed.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}
