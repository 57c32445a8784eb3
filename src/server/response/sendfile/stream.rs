//! A plain TCP stream that sends file parts from the page cache where hyper writes their placeholder.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::server::response::sendfile::queue::{SendfileQueue, is_placeholder};

pub(in crate::server) struct SendfileStream {
    stream: TcpStream,
    sendfile_queue: SendfileQueue,
}

impl SendfileStream {
    pub(in crate::server) const fn new(stream: TcpStream, sendfile_queue: SendfileQueue) -> Self {
        Self { stream, sendfile_queue }
    }

    fn when_writable<T>(&self, cx: &mut Context<'_>, mut write: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut write) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for SendfileStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SendfileStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sendfile_queue.check()?;
        let bytes = slices.iter().take_while(|slice| !is_placeholder(slice)).count();
        let (bytes, files) = slices.split_at(bytes);
        match bytes {
            [] if files.is_empty() => Poll::Ready(Ok(0)),
            [] => self.when_writable(cx, || self.sendfile_queue.send(&self.stream, files)),
            // MSG_MORE: the head leaves together with the first bytes of its body.
            [head] if !files.is_empty() => {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                self.when_writable(cx, || Ok(send(&self.stream, head, flags)?))
            }
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use bytes::{Buf as _, Bytes};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::server::response::sendfile::queue::Chunk;
    use crate::store::{BlobFile, SEND_WINDOW};

    const SIZE: usize = 3 * SEND_WINDOW;

    fn content() -> Vec<u8> {
        (1..=251).cycle().take(SIZE).collect()
    }

    fn stored() -> BlobFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content()).unwrap();
        BlobFile::of(file)
    }

    async fn connected() -> (SendfileStream, SendfileQueue, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let sendfile_queue = SendfileQueue::default();
        (SendfileStream::new(near, sendfile_queue.clone()), sendfile_queue, far)
    }

    /// Writes like hyper: all waiting buffers as slices, until none is left.
    async fn write(sender: &mut SendfileStream, queue: Vec<Chunk>) -> io::Result<()> {
        let mut queue = std::collections::VecDeque::from(queue);
        while let Some(first) = queue.front() {
            if !first.has_remaining() {
                queue.pop_front();
                continue;
            }
            let mut slices = [IoSlice::new(&[]); 64];
            let mut filled = 0;
            for chunk in &queue {
                filled += chunk.chunks_vectored(slices.get_mut(filled..).unwrap());
            }
            let mut sent = sender.write_vectored(slices.get(..filled).unwrap()).await?;
            for chunk in &mut queue {
                let part = sent.min(chunk.remaining());
                chunk.advance(part);
                sent -= part;
            }
        }
        Ok(())
    }

    fn bytes(text: &'static str) -> Chunk {
        Chunk::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn files_and_bytes_arrive_in_their_order() {
        let (mut sender, sendfile_queue, mut far) = connected().await;
        let file = stored();
        let queue = vec![
            bytes("head"),
            sendfile_queue.push(file.clone(), 5, SEND_WINDOW, None, None),
            sendfile_queue.push(file.clone(), 0, 1, None, None),
            bytes("next"),
            sendfile_queue.push(file, SIZE as u64 - 70_000, 70_000, None, None),
        ];
        let writing = tokio::spawn(async move { write(&mut sender, queue).await });
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        writing.await.unwrap().unwrap();
        let content = content();
        let want = [b"head", &content[5..5 + SEND_WINDOW], &content[..1], b"next", &content[SIZE - 70_000..]].concat();
        assert!(read == want, "{} bytes came of {}", read.len(), want.len());
    }

    #[tokio::test]
    async fn what_stands_in_for_a_file_never_leaves() {
        // No part waits; another part waits; the placeholder was copied and counted as bytes.
        let (mut sender, sendfile_queue, mut far) = connected().await;
        let elsewhere = SendfileQueue::default();
        let stray = vec![elsewhere.push(stored(), 0, 100, None, None)];
        assert!(write(&mut sender, stray).await.is_err());
        let _first = sendfile_queue.push(stored(), 0, 100, None, None);
        let second = sendfile_queue.push(stored(), 0, 100, None, None);
        assert!(write(&mut sender, vec![second]).await.is_err());
        let mut third = sendfile_queue.push(stored(), 0, 100, None, None);
        let copied = third.copy_to_bytes(100);
        assert!(sender.write_all(&copied).await.is_err());
        assert!(write(&mut sender, vec![bytes("more")]).await.is_err());
        drop(sender);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read.is_empty(), "{read:?}");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let (near, _far) = UnixStream::pair().unwrap();
        let sendfile_queue = SendfileQueue::default();
        let chunk = sendfile_queue.push(stored(), SIZE as u64 - 10, 20, None, None);
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = chunk.chunks_vectored(&mut slices);
        assert_eq!(sendfile_queue.send(&near, &slices[..filled]).unwrap(), 10);
        assert_eq!(sendfile_queue.send(&near, &slices[..filled]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
