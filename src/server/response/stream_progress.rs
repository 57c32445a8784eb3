//! Measures how much of a body an HTTP/2 client has taken.
//!
//! hyper does not poll a body while its stream's window is closed, and a closed window is no pending write. The given
//! bytes wait inside h2, which reports nothing. So the buffers themselves count the bytes that leave them.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, sleep_until};

use crate::server::stall::StallLimit;

tokio::task_local! {
    static PROGRESS: Arc<StreamProgress>;
}

/// The bytes that a stream's body has given and its client has not taken yet.
#[derive(Default)]
pub(in crate::server) struct StreamProgress(Mutex<Taking>);

#[derive(Default)]
struct Taking {
    waiting_bytes: u64,
    taken_bytes: u64,
    /// Time of the last byte taken, or of the first byte given after an empty queue.
    since: Option<Instant>,
    /// Since when bytes have waited all the time, and what had been taken before.
    behind: Option<(Instant, u64)>,
    /// The waker of a body that waits for its end.
    waker: Option<Waker>,
}

impl StreamProgress {
    /// Runs a stream's task, in which [`Self::of_stream`] finds this progress.
    pub(in crate::server) async fn follow(self: &Arc<Self>, stream: impl Future<Output = ()>) {
        PROGRESS.scope(Arc::clone(self), stream).await;
    }

    /// The progress of the current task's stream; `None` on HTTP/1.1.
    pub(in crate::server) fn of_stream() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives these bytes to the client, and counts how many of them are taken.
    pub(in crate::server) fn watch(self: &Arc<Self>, bytes: Bytes) -> TrackedBytes {
        let mut taking = self.taking();
        if taking.waiting_bytes == 0 {
            let now = Instant::now();
            taking.since = Some(now);
            taking.behind = Some((now, taking.taken_bytes));
        }
        taking.waiting_bytes += bytes.len() as u64;
        drop(taking);
        TrackedBytes { bytes, progress: Arc::clone(self) }
    }

    /// Bytes that the client has taken.
    pub(in crate::server) fn taken_bytes(&self) -> u64 {
        self.taking().taken_bytes
    }

    /// Ready when the client has taken everything that was given.
    pub(in crate::server) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut taking = self.taking();
        if taking.waiting_bytes == 0 {
            return Poll::Ready(());
        }
        taking.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Records that the client has taken bytes.
    fn left(&self, bytes: u64, are_taken: bool) {
        let mut taking = self.taking();
        taking.waiting_bytes = taking.waiting_bytes.saturating_sub(bytes);
        if are_taken {
            taking.taken_bytes += bytes;
            taking.since = Some(Instant::now());
        }
        let waker = if taking.waiting_bytes == 0 { taking.waker.take() } else { None };
        drop(taking);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the client is behind, and to go for it.
    fn is_too_slow(&self, limit: &StallLimit) -> bool {
        let mut taking = self.taking();
        let now = Instant::now();
        let Some((since, before)) = taking.behind.filter(|_| taking.waiting_bytes > 0) else { return false };
        let (waited, taken_bytes) = (now - since, taking.taken_bytes - before);
        if !StallLimit::can_tell(waited) {
            return false;
        }
        taking.behind = Some((now, taking.taken_bytes));
        drop(taking);
        limit.is_too_slow(waited, taken_bytes)
    }

    /// Resolves when bytes have waited for `limit` and none was taken, or too few while others need the place.
    pub(in crate::server) async fn stalled(&self, limit: &StallLimit) {
        loop {
            let since = {
                let taking = self.taking();
                taking.since.filter(|_| taking.waiting_bytes > 0)
            };
            let now = Instant::now();
            match since {
                Some(since) if since + limit.now() <= now => return,
                Some(_) if self.is_too_slow(limit) => return,
                Some(since) => {
                    let (first, look_every) = (since + limit.look_every(), limit.look_every());
                    sleep_until(if first > now { first } else { now + look_every }).await;
                }
                None => sleep_until(now + limit.look_every()).await,
            }
        }
    }
}

/// Bytes on their way to a stream's client.
pub(in crate::server) struct TrackedBytes {
    bytes: Bytes,
    progress: Arc<StreamProgress>,
}

impl Buf for TrackedBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.progress.left(count as u64, true);
    }
}

impl Drop for TrackedBytes {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.progress.left(self.bytes.len() as u64, false);
        }
    }
}
