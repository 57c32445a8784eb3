//! What operators are told of the facts, and a copy of them.

use std::io::Write;

use crate::index::{Counts, IndexError};

use super::Mirror;

impl Mirror {
    /// How many facts there are.
    pub async fn counts(&self) -> Result<Counts, IndexError> {
        self.index.counts().await
    }

    /// Bytes of blobs and partial files now.
    pub fn used_bytes(&self) -> u64 {
        self.store.used_bytes()
    }

    /// Writes all facts of this moment to `out`, without the blobs, and returns how many.
    pub async fn back_up(&self, out: impl Write + Send + 'static) -> Result<u64, IndexError> {
        self.index.back_up(out).await
    }
}
