//! Writing a partial file in any order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::allocation::Refusal;
use super::claim::Claim;
use super::space::Space;

/// Writes where it is told to. While it is there, the file's name stays claimed.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<File>,
    _claim: Arc<Claim>,
    refusal: Refusal,
    space: Arc<Space>,
}

impl Writer {
    pub(super) const fn new(file: Arc<File>, claim: Arc<Claim>, refusal: Refusal, space: Arc<Space>) -> Self {
        Self { file, _claim: claim, refusal, space }
    }

    /// Writes chunks one behind the other. Blocks.
    pub(super) fn write(&self, at: u64, chunks: &[Bytes]) -> io::Result<()> {
        let written = self.refusal.check().and_then(|()| {
            let mut at = at;
            for chunk in chunks {
                self.file.write_all_at(chunk, at)?;
                at += chunk.len() as u64;
            }
            Ok(())
        });
        written.inspect_err(|err| self.space.note_refusal(err))
    }
}
