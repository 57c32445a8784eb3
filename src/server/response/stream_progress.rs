//! How much of a body an HTTP/2 client has taken.
//!
//! A body is not asked for more while its stream's window is closed, and a closed window is no pending write. The bytes
//! that a body gave wait in h2, which tells nobody. So the buffers themselves count the bytes taken of them.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    static PROGRESS: Arc<StreamProgress>;
}

/// The bytes that a stream's body gave and that its client has yet to take.
#[derive(Default)]
pub(in crate::server) struct StreamProgress(Mutex<Taking>);

#[derive(Default)]
struct Taking {
    waiting_bytes: u64,
    taken_bytes: u64,
    /// When something was last taken, or given while nothing waited.
    since: Option<Instant>,
    /// The waker of a body that waits for its end.
    waker: Option<Waker>,
}

impl StreamProgress {
    /// Runs a stream, whose bodies find this progress by [`Self::of_stream`].
    pub(in crate::server) async fn follow(self: &Arc<Self>, stream: impl Future<Output = ()>) {
        PROGRESS.scope(Arc::clone(self), stream).await;
    }

    /// The progress of the stream whose task this is; `None` on HTTP/1.1.
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
            taking.since = Some(Instant::now());
        }
        taking.waiting_bytes += bytes.len() as u64;
        drop(taking);
        TrackedBytes { bytes, progress: Arc::clone(self) }
    }

    /// Bytes that went to the client.
    pub(in crate::server) fn taken_bytes(&self) -> u64 {
        self.taking().taken_bytes
    }

    /// Ready when nothing that was given waits.
    pub(in crate::server) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut taking = self.taking();
        if taking.waiting_bytes == 0 {
            return Poll::Ready(());
        }
        taking.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// So many of the bytes that wait do not any more.
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

    /// Resolves when something has waited for `limit` without any of it being taken.
    pub(in crate::server) async fn stalled(&self, limit: Duration) {
        loop {
            let since = {
                let taking = self.taking();
                taking.since.filter(|_| taking.waiting_bytes > 0)
            };
            let now = Instant::now();
            match since {
                Some(since) if since + limit <= now => return,
                since => sleep_until(since.unwrap_or(now) + limit).await,
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
