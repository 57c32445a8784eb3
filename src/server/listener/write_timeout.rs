//! Deadlines on a connection. A client that takes nothing or sends nothing is cut, so that it cannot hold resources for
//! ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::server::stall::StallLimit;

/// The preface of every HTTP/2 client. hyper starts no timeout before it has read the preface or something else.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Wraps a connection. A write fails after it was pending for `limit`, or where others need the place of a client that takes
/// too little. A read fails at `preface_deadline` if the client
/// has not shown by then which version of HTTP it speaks.
pub(in crate::server) struct WriteTimeout<T> {
    inner: T,
    limit: StallLimit,
    /// Since when a write is pending, and when to look at it again.
    pending: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long writes were pending lately, and the bytes that were taken in that time.
    lately: (Duration, u64),
    preface_deadline: Option<PrefaceDeadline>,
}

struct PrefaceDeadline {
    deadline: Pin<Box<Sleep>>,
    /// Bytes of the preface received so far.
    seen: usize,
}

impl<T> WriteTimeout<T> {
    pub(in crate::server) fn new(inner: T, limit: impl Into<StallLimit>) -> Self {
        Self { inner, limit: limit.into(), pending: None, lately: (Duration::ZERO, 0), preface_deadline: None }
    }

    /// Cuts a client that has not shown its HTTP version by then.
    pub(in crate::server) fn with_preface_deadline(mut self, limit: Duration) -> Self {
        self.preface_deadline = Some(PrefaceDeadline { deadline: Box::pin(tokio::time::sleep(limit)), seen: 0 });
        self
    }

    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
        taken_bytes: impl FnOnce(&R) -> usize,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(done) = &polled {
            self.lately.1 += done.as_ref().map_or(0, taken_bytes) as u64;
            let Some((since, _)) = self.pending.take() else { return polled };
            self.lately.0 += since.elapsed();
            let (waited, taken_bytes) = self.lately;
            if StallLimit::can_tell(waited) {
                self.lately = (Duration::ZERO, 0);
                if self.limit.is_too_slow(waited, taken_bytes) {
                    return Poll::Ready(Err(too_slow()));
                }
            }
            return polled;
        }
        let look_every = self.limit.look_every();
        let arm = || (Instant::now(), Box::pin(tokio::time::sleep(look_every)));
        let (since, look) = self.pending.get_or_insert_with(arm);
        while look.as_mut().poll(cx).is_ready() {
            if since.elapsed() >= self.limit.now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")));
            }
            look.as_mut().reset(Instant::now() + look_every);
        }
        Poll::Pending
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client takes too little while others wait")
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteTimeout<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Some(preface_deadline) = &mut self.preface_deadline else { return polled };
        if polled.is_pending() {
            return match preface_deadline.deadline.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"))),
            };
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        let awaited = PREFACE.get(preface_deadline.seen..).unwrap_or_default();
        preface_deadline.seen += new.len();
        if !awaited.starts_with(new) || preface_deadline.seen == PREFACE.len() {
            self.preface_deadline = None;
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, polled, |written| *written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, polled, |written| *written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, polled, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, polled, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn guarded() -> (WriteTimeout<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (WriteTimeout::new(near, Duration::from_mins(1)).with_preface_deadline(Duration::ZERO), far)
    }

    async fn read(guarded: &mut WriteTimeout<DuplexStream>) -> io::Result<usize> {
        guarded.read(&mut [0; 64]).await
    }

    #[tokio::test]
    async fn t34_a_client_that_says_nothing_is_cut() {
        for said in ["", "P", "PRI * HTTP/2.0\r\n"] {
            let (mut near, mut far) = guarded();
            far.write_all(said.as_bytes()).await.unwrap();
            if !said.is_empty() {
                assert_eq!(read(&mut near).await.unwrap(), said.len());
            }
            assert_eq!(read(&mut near).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{said}");
        }
    }

    #[tokio::test]
    async fn who_has_said_something_may_pause() {
        for said in ["G", "PO", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more"] {
            let (mut near, mut far) = guarded();
            far.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(read(&mut near).await.unwrap(), said.len());
            let mut rest = [0; 64];
            let paused = std::pin::pin!(near.read(&mut rest));
            assert!(futures_util::poll!(paused).is_pending(), "{said}");
        }
    }
}
