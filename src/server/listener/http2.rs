//! HTTP/2 connections, with a deadline for each stream.
//!
//! Each stream is a task with a [`StreamProgress`]. If the client takes nothing of a stream within the limit, the task is
//! dropped, which resets the stream and returns its request's permit. Other streams go on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::http2;
use hyper::service::HttpService;
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::server::response::body::Body;
use crate::server::response::stream_progress::StreamProgress;
use crate::server::stall::StallLimit;

/// Concurrent requests of one connection.
const MAX_STREAMS: u32 = 100;
/// Bytes that h2 buffers for a stream whose window is closed, besides the body's next frame.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Interval of pings. A connection that does not answer one within [`PING_TIMEOUT`] is closed.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Spawns a connection's streams and counts them.
#[derive(Clone)]
struct Streams {
    limit: StallLimit,
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
        let (one, limit) = (OneMore(Arc::clone(&self.running)), self.limit.clone());
        tokio::spawn(async move {
            let _one = one;
            let progress = Arc::new(StreamProgress::default());
            tokio::select! {
                () = progress.follow(stream) => {}
                () = progress.stalled(&limit) => {}
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

/// Serves until the client leaves, no request has come for `idle`, or `stop`, after which responses may end. A stream
/// whose client takes nothing for `stall` is reset.
pub(in crate::server) async fn serve<I, S>(
    io: I,
    service: S,
    stall: StallLimit,
    idle: Duration,
    stop: CancellationToken,
) where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Future: Send + 'static>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let running = Arc::new(Running::default());
    let mut builder = http2::Builder::new(Streams { limit: stall.clone(), running: Arc::clone(&running) });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(super::MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_WAITING_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut serving = pin!(builder.serve_connection(io, service));
    {
        let mut idle = pin!(running.idle(idle));
        tokio::select! {
            // Clients may end connections as they like; a failed response has its own access line.
            _ended = serving.as_mut() => return,
            () = idle.as_mut() => {}
            () = stop.cancelled() => {}
        }
    }
    Pin::as_mut(&mut serving).graceful_shutdown();
    // Streams whose windows stay closed end with the connection.
    let mut drained = pin!(running.idle(stall.now()));
    tokio::select! {
        _ended = serving => {}
        () = drained.as_mut() => {}
    }
}
