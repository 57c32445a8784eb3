//! Eviction by command.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::cache::retention::{Collected, Gc};
use crate::mirror::Mirror;

/// One call does not work longer, so that its client hears of it.
const LONGEST: Duration = Duration::from_secs(20);

/// What one call has evicted.
#[derive(Debug, Serialize)]
pub struct Gone {
    pub evicted_blobs: u64,
    pub evicted_bytes: u64,
    /// Bytes that are used now.
    pub used_bytes: u64,
    /// Nothing is left to do, or nothing more may go. Otherwise, the same call goes on.
    pub done: bool,
}

/// Evicts for some seconds at most.
pub async fn collect(mirror: &Arc<Mirror>, gc: Gc) -> Gone {
    let Collected { blobs, bytes, is_done } = mirror.evictor().gc(gc, Instant::now() + LONGEST).await;
    let used_bytes = mirror.cache().used_bytes();
    Gone { evicted_blobs: blobs, evicted_bytes: bytes, used_bytes, done: is_done }
}
