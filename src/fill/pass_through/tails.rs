//! The proven tails of blobs that cannot be stored.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio_util::task::TaskTracker;

use super::PassThroughSource;
use super::whole::WholeBlob;
use crate::coalesce::{Coalesce, queued};
use crate::fill::error::FillError;
use crate::oci::{Authority, Digest};

/// Tails kept at one time: 4 MiB.
const MAX_KEPT: u64 = 64;

/// Reads a whole blob for its tail, once for all who ask at the same time, and keeps what was proven.
pub(in crate::fill) struct ProvenTails {
    reads: Coalesce<(Authority, Digest), Result<Bytes, FillError>>,
    kept: moka::sync::Cache<(Authority, Digest), Bytes>,
}

impl ProvenTails {
    pub(in crate::fill) fn new(tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { reads: Coalesce::new(tasks), kept: moka::sync::Cache::new(MAX_KEPT) })
    }

    /// The last bytes of the blob, which are withheld without proof. Reading stops when nobody waits for them any more.
    pub(super) async fn read(&self, source: &PassThroughSource) -> Result<Bytes, FillError> {
        let key = (source.scope.authority.clone(), source.digest);
        if let Some(tail) = self.kept.get(&key) {
            return Ok(tail);
        }
        let read = || {
            let (source, kept, key) = (source.clone(), self.kept.clone(), key.clone());
            async move {
                let tail = Box::pin(queued(read_tail(&source))).await?;
                kept.insert(key, tail.clone());
                Ok(tail)
            }
        };
        let look = || {
            let known = self.kept.get(&key).map(Ok);
            async move { known }
        };
        let died = |_leader| FillError::Internal("the task that read the tail ended without a result".to_owned());
        self.reads.run_unless(key.clone(), look, read).await.map_err(died)?.0
    }
}

async fn read_tail(source: &PassThroughSource) -> Result<Bytes, FillError> {
    let (mut at, size) = (0, source.size_bytes);
    let tail_start = source.withheld_from();
    let mut whole = WholeBlob::open(source).await?;
    while at < tail_start {
        at += whole.next(source, at, tail_start).await?.len() as u64;
    }
    let mut tail = BytesMut::new();
    while at < size {
        let bytes = whole.next(source, at, size).await?;
        at += bytes.len() as u64;
        tail.extend_from_slice(&bytes);
    }
    Ok(tail.freeze())
}
