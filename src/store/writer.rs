//! Writing a partial file in any order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::allocation::Refusal;
use super::claim::Claim;
use super::space::Space;

/// Writes where it is told to. Several may write one file, each its own bytes; the file's name stays claimed until the
/// last write has ended.
#[derive(Debug, Clone)]
pub struct Writer {
    file: Arc<File>,
    claim: Arc<Claim>,
    refusal: Refusal,
    space: Arc<Space>,
}

impl Writer {
    pub(super) const fn new(file: Arc<File>, claim: Arc<Claim>, refusal: Refusal, space: Arc<Space>) -> Self {
        Self { file, claim, refusal, space }
    }

    /// Writes chunks one behind the other, and gives them back. The write goes on if the future is dropped.
    pub fn write(&self, at: u64, chunks: Vec<Bytes>) -> impl Future<Output = io::Result<Vec<Bytes>>> + Send + use<> {
        let (file, claim, refusal) = (Arc::clone(&self.file), Arc::clone(&self.claim), self.refusal.clone());
        let written = tokio::task::spawn_blocking(move || {
            let _claim = claim;
            refusal.check()?;
            let mut at = at;
            for chunk in &chunks {
                file.write_all_at(chunk, at)?;
                at += chunk.len() as u64;
            }
            Ok(chunks)
        });
        let space = Arc::clone(&self.space);
        async move { written.await.map_err(io::Error::other)?.inspect_err(|err| space.note_refusal(err)) }
    }
}
