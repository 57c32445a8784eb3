//! The stream under hyper: the place to cut a connection at an exact byte, to say what hyper would not, and to be slow.
//!
//! A body that fails makes hyper drop what it has buffered, so the client would see fewer bytes than the script says.
//! A body that merely stops makes hyper flush, and the wire ends the connection behind that flush.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line::{Fate, Line, cut};
use super::throttle::Bucket;

/// Bytes per second of each connection, 0 for no limit; may change at any time.
pub(crate) type Rate = Arc<AtomicU64>;

pub(crate) struct Wire<S> {
    stream: S,
    line: Arc<Line>,
    rate: Rate,
    bucket: Option<Bucket>,
    saying: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, line: Arc<Line>, rate: Rate) -> Self {
        Self { stream, line, rate, bucket: None, saying: None }
    }

    fn write_at_rate(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        let bucket = self.bucket.get_or_insert_with(Bucket::default);
        let allowed = ready!(bucket.poll_allowance(cx, rate, bytes.len()));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..allowed]))?;
        bucket.spend(written);
        Poll::Ready(Ok(written))
    }

    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(said) = self.saying.as_mut().filter(|said| !said.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, said))?;
            said.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.line.fate() {
            Fate::Lives | Fate::EndsWhenFlushed => self.write_at_rate(cx, bytes),
            Fate::EndsNow => Poll::Ready(Err(cut())),
            Fate::Says(text) => {
                self.saying.get_or_insert(text);
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.line.fate() == Fate::Lives && self.rate.load(Ordering::Relaxed) == 0 {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fate = self.line.fate();
        ready!(self.poll_say(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        match fate {
            Fate::Lives => Poll::Ready(Ok(())),
            Fate::Says(_) if self.saying.is_none() => Poll::Ready(Ok(())),
            Fate::EndsWhenFlushed | Fate::EndsNow | Fate::Says(_) => Poll::Ready(Err(cut())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.line.fate() {
            Fate::Lives => Pin::new(&mut self.stream).poll_shutdown(cx),
            // Without a close_notify under TLS, as when a machine dies.
            Fate::EndsWhenFlushed | Fate::EndsNow | Fate::Says(_) => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}
