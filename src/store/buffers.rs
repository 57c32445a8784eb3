//! Buffers for bytes that have to be read before they leave, as under TLS: large, used again, zeroed once.

use std::mem;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one buffer. Four TLS records; small enough to stay in a core's cache from the read to the cipher.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that wait for the next reader, 8 MiB at most. Beyond that they are given back to the allocator.
const KEPT: usize = 128;

static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer on loan.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    pub(super) fn take() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { bytes: free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into()), filled: 0 }
    }

    /// Room for up to `length` bytes. What is in it is of no meaning.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.bytes.len());
        self.bytes.split_at_mut(length).0
    }

    /// Its first bytes. The buffer comes back when the last that holds them is dropped.
    pub(super) fn filled(mut self, length: usize) -> Bytes {
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
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(mem::take(&mut self.bytes));
        }
    }
}
