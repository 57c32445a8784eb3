//! Writing a partial file in any order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::super::super::space::Space;
use super::super::name_lock::NameLock;
use super::super::preallocate::Refusal;

/// Writes where it is told to. While it is there, the file's name stays claimed.
#[derive(Debug)]
pub(in crate::store::partial) struct Writer {
    file: Arc<File>,
    _name_lock: Arc<NameLock>,
    refusal: Refusal,
    space: Arc<Space>,
}

impl Writer {
    pub(in crate::store::partial) const fn new(
        file: Arc<File>,
        name_lock: Arc<NameLock>,
        refusal: Refusal,
        space: Arc<Space>,
    ) -> Self {
        Self { file, _name_lock: name_lock, refusal, space }
    }

    /// Writes chunks one behind the other. Blocks.
    pub(in crate::store::partial) fn write(&self, at: u64, chunks: &[Bytes]) -> io::Result<()> {
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
