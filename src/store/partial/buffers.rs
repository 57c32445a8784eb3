//! Large buffers that are used again: a fresh one costs a page fault for every 4 KiB of it.

use std::mem;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one read. Four TLS records; small enough to stay in a core's cache from the read to the cipher.
pub(in crate::store) const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a full piece. Each one wakes its readers; several of them fit into a core's cache.
pub const PIECE_BYTES: usize = 512 * 1024;

static READS: Pool = Pool::new(128);
static PIECES: Pool = Pool::new(16);

/// Buffers that wait for their next use. Beyond so many they are given back to the allocator.
struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    kept: usize,
}

impl Pool {
    const fn new(kept: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), kept }
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.kept {
            free.push(buffer);
        }
    }
}

/// For bytes that have to be read before they leave, as under TLS. Zeroed once.
pub(in crate::store) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    pub(in crate::store) fn take() -> Self {
        Self { bytes: READS.take().unwrap_or_else(|| vec![0; BUFFER_BYTES]), filled: 0 }
    }

    /// Room for up to `length` bytes. What is in it is of no meaning.
    pub(in crate::store) fn room(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.bytes.len());
        self.bytes.split_at_mut(length).0
    }

    /// Its first bytes. The buffer comes back when the last that holds them is dropped.
    pub(in crate::store) fn filled(mut self, length: usize) -> Bytes {
        self.filled = length.min(self.bytes.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.split_at(self.filled).0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        READS.give(mem::take(&mut self.bytes));
    }
}

/// A piece of a download that is being gathered from what the network brings.
#[derive(Debug)]
pub struct Gathering {
    bytes: Vec<u8>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { bytes: PIECES.take().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES)) }
    }
}

impl Gathering {
    /// Takes what fits of these bytes, and gives the rest back. No rest: there is room for more.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.bytes.len()));
        self.bytes.extend_from_slice(taken);
        rest
    }

    /// The piece. Its buffer comes back when the last that holds it is dropped.
    pub fn done(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Gathering {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        bytes.clear();
        PIECES.give(bytes);
    }
}
