//! HTTP/2, with deadlines of its own.
//!
//! A body is not asked for more while its stream's window is closed, and a closed window is no pending write; what a body
//! gave waits in h2, which tells nobody. So the buffers themselves count what is taken of them, and a stream, which is a
//! task, does not end before its last buffer is empty. One of which nothing is taken within the limit is dropped, which
//! resets that stream and gives its request's place back. The others go on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::http2;
use hyper::service::HttpService;
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::body::Body;

/// Requests of one connection at one time.
const MAX_STREAMS: u32 = 100;
/// Of a stream whose window is closed, at most so much is kept besides the body's next bytes.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// A connection that answers no ping for so long is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// What a stream's client has yet to take of what its body gave.
#[derive(Default)]
pub(super) struct Progress(Mutex<Taking>);

#[derive(Default)]
struct Taking {
    waiting_bytes: u64,
    taken_bytes: u64,
    /// When something was last taken, or given while nothing waited.
    since: Option<Instant>,
    /// Of a body that waits for its end.
    waker: Option<Waker>,
}

impl Progress {
    /// Of the stream whose task this is; `None` on HTTP/1.1.
    pub(super) fn of_stream() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is taken of these bytes, by which they are given to the client.
    pub(super) fn watch(self: &Arc<Self>, bytes: Bytes) -> Given {
        let mut taking = self.taking();
        if taking.waiting_bytes == 0 {
            taking.since = Some(Instant::now());
        }
        taking.waiting_bytes += bytes.len() as u64;
        drop(taking);
        Given { bytes, progress: Arc::clone(self) }
    }

    /// Bytes that went to the client.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taking().taken_bytes
    }

    /// Ready when nothing that was given waits.
    pub(super) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
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
    async fn stalled(&self, limit: Duration) {
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
pub(super) struct Given {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl Buf for Given {
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

impl Drop for Given {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.progress.left(self.bytes.len() as u64, false);
        }
    }
}

/// Runs a connection's streams, and counts them.
#[derive(Clone)]
struct Streams {
    limit: Duration,
    running: Arc<Running>,
}

#[derive(Default)]
struct Running {
    streams: AtomicUsize,
    changed: Notify,
}

struct OneMore(Arc<Running>);

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.running.streams.fetch_add(1, Ordering::Relaxed);
        self.running.changed.notify_one();
        let (one, limit) = (OneMore(Arc::clone(&self.running)), self.limit);
        tokio::spawn(async move {
            let _one = one;
            let progress = Arc::new(Progress::default());
            tokio::select! {
                () = PROGRESS.scope(Arc::clone(&progress), stream) => {}
                () = progress.stalled(limit) => {}
            }
        });
    }
}

impl Running {
    /// Resolves when no stream has run for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.streams.load(Ordering::Relaxed) > 0 {
                changed.await;
            } else if tokio::time::timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }
}

/// Serves until the client leaves, nothing has been asked for `idle`, or `stop`, which lets responses end. A stream whose
/// client takes nothing for `stall` is reset.
pub(super) async fn serve<I, S>(io: I, service: S, stall: Duration, idle: Duration, stop: CancellationToken)
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Future: Send + 'static>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let running = Arc::new(Running::default());
    let mut builder = http2::Builder::new(Streams { limit: stall, running: Arc::clone(&running) });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(super::listen::MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_WAITING_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut serving = pin!(builder.serve_connection(io, service));
    {
        let mut idle = pin!(running.idle(idle));
        tokio::select! {
            // What ends a connection is the client's business; what went wrong in a response is in its line.
            _ended = serving.as_mut() => return,
            () = idle.as_mut() => {}
            () = stop.cancelled() => {}
        }
    }
    Pin::as_mut(&mut serving).graceful_shutdown();
    // What it has been told that is still waiting for a window that stays closed goes with it.
    let mut drained = pin!(running.idle(stall));
    tokio::select! {
        _ended = serving => {}
        () = drained.as_mut() => {}
    }
}
