//! Eviction by command.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::retention::{Collected, Gc};
use crate::jobs::Gone;
use crate::jobs::job::RunningJob;
use crate::mirror::Mirror;

/// One call does not work longer, so that its client hears of it.
const LONGEST: Duration = Duration::from_secs(20);
/// From one state of a job to the next.
const STEP: Duration = Duration::from_secs(1);

/// Evicts for some seconds at most. Unless it is done, the same call goes on.
pub async fn collect(mirror: &Arc<Mirror>, gc: Gc) -> Gone {
    step(mirror, gc, LONGEST).await
}

/// Evicts until nothing is left to do, nothing more may go, or the job is cancelled.
pub(super) async fn collect_all(mirror: &Arc<Mirror>, job: &RunningJob, gc: Gc) {
    let (mut blobs, mut bytes) = (0, 0);
    while !job.is_cancelled() {
        let gone = step(mirror, gc, STEP).await;
        blobs += gone.evicted_blobs;
        bytes += gone.evicted_bytes;
        job.set_evicted(Gone { evicted_blobs: blobs, evicted_bytes: bytes, ..gone });
        if gone.done {
            return;
        }
    }
}

async fn step(mirror: &Arc<Mirror>, gc: Gc, longest: Duration) -> Gone {
    let Collected { blobs, bytes, is_done } = mirror.evictor().gc(gc, Instant::now() + longest).await;
    let used_bytes = mirror.cache().used_bytes();
    Gone { evicted_blobs: blobs, evicted_bytes: bytes, used_bytes, done: is_done }
}
