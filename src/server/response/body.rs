//! Response bodies.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body::{Frame, SizeHint};

use crate::fill::{BlobReader, BodyPart, FillError};

use crate::server::access_log::Completion;
use crate::server::response::multipart::Multipart;
use crate::server::response::sendfile::queue::{Chunk, SendfileQueue, Shared};
use crate::server::response::stream_progress::StreamProgress;

/// A response body of known length.
pub(in crate::server) struct Body {
    content: Content,
    length: u64,
    completion: Option<Shared>,
    sendfile_queue: Option<SendfileQueue>,
    /// Set on HTTP/2, from the first frame on.
    progress: Option<Arc<StreamProgress>>,
}

#[expect(clippy::large_enum_variant, reason = "a box would cost each hit an allocation")]
enum Content {
    /// All bytes in one piece, or none.
    Bytes(Option<Bytes>),
    /// One range; or several, with the text between them.
    Reader(BlobReader, Option<Box<Multipart>>),
    Parts(BoxStream<'static, Result<BodyPart, FillError>>),
}

impl Body {
    pub(in crate::server) const fn empty() -> Self {
        Self::of(Content::Bytes(None), 0)
    }

    pub(in crate::server) const fn bytes(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self::of(Content::Bytes(Some(bytes)), length)
    }

    /// Bytes one behind the other.
    pub(in crate::server) fn pieces(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let parts = stream::iter(pieces).map(|piece| Ok(BodyPart::Bytes(piece)));
        Self::of(Content::Parts(parts.boxed()), length)
    }

    /// A blob's range. An error ends the connection before `Content-Length` is reached.
    pub(in crate::server) const fn reader(reader: BlobReader, length: u64) -> Self {
        Self::of(Content::Reader(reader, None), length)
    }

    /// Several ranges of a blob, with the text between them.
    pub(in crate::server) fn multipart(reader: BlobReader, multipart: Multipart, length: u64) -> Self {
        Self::of(Content::Reader(reader, Some(Box::new(multipart))), length)
    }

    const fn of(content: Content, length: u64) -> Self {
        Self { content, length, completion: None, sendfile_queue: None, progress: None }
    }

    /// Reports the body's progress and end to `completion`.
    pub(in crate::server) fn watched(mut self, completion: Completion) -> Self {
        self.completion = Some(Arc::new(Mutex::new(completion)));
        self
    }

    /// For a connection with sendfile: file parts go into its queue, not through hyper.
    pub(in crate::server) fn through(mut self, sendfile_queue: &SendfileQueue) -> Self {
        self.sendfile_queue = Some(sendfile_queue.clone());
        self
    }

    fn report(&self, report: impl FnOnce(&mut Completion)) {
        if let Some(completion) = &self.completion {
            report(&mut completion.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<BodyPart, FillError>>> {
        match &mut self.content {
            Content::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(BodyPart::Bytes(bytes)))),
            Content::Parts(parts) => parts.poll_next_unpin(cx),
            Content::Reader(..) => {
                if let Content::Reader(reader, between) = std::mem::replace(&mut self.content, Content::Bytes(None)) {
                    let sends_files = self.sendfile_queue.is_some();
                    self.content = Content::Parts(parts(reader, between, sends_files).boxed());
                }
                self.poll_part(cx)
            }
        }
    }
}

fn parts(
    reader: BlobReader,
    between: Option<Box<Multipart>>,
    sends_files: bool,
) -> impl Stream<Item = Result<BodyPart, FillError>> + Send {
    stream::try_unfold((reader, between), move |(mut reader, mut between)| async move {
        let mut part = if sends_files { reader.next_part().await? } else { reader.next().await?.map(BodyPart::Bytes) };
        if part.is_none()
            && let Some((text, range)) = between.as_mut().and_then(Iterator::next)
        {
            reader.go_to(range);
            part = Some(BodyPart::Bytes(text));
        }
        Ok(part.map(|part| (part, (reader, between))))
    })
}

impl http_body::Body for Body {
    type Data = Chunk;
    type Error = FillError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, FillError>>> {
        if self.progress.is_none() {
            self.progress = StreamProgress::of_stream();
        }
        let part = ready!(self.poll_part(cx));
        Poll::Ready(match part {
            None => {
                // The body ends only when all is taken: bytes left in h2 after the end would have no timeout.
                if let Some(progress) = &self.progress {
                    ready!(progress.poll_taken(cx));
                }
                None
            }
            Some(Err(error)) => {
                self.report(|completion| completion.failed(&error));
                Some(Err(error))
            }
            Some(Ok(BodyPart::Bytes(bytes))) => {
                let Some(progress) = &self.progress else {
                    self.report(|completion| completion.sent(bytes.len()));
                    return Poll::Ready(Some(Ok(Frame::data(Chunk::Bytes(bytes)))));
                };
                let given = progress.watch(bytes);
                self.report(Completion::begun);
                Some(Ok(Frame::data(Chunk::TrackedBytes(given))))
            }
            Some(Ok(BodyPart::File { file, offset, length, watch })) => {
                let Some(sendfile_queue) = &self.sendfile_queue else {
                    let error = "a part of a file on a connection that sends none".to_owned();
                    return Poll::Ready(Some(Err(FillError::Internal(error))));
                };
                Some(Ok(Frame::data(sendfile_queue.push(file, offset, length, watch, self.completion.clone()))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        // On HTTP/2, the end is a separate frame once bytes were given.
        matches!(self.content, Content::Bytes(None)) && self.progress.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            let taken = usize::try_from(progress.taken_bytes()).unwrap_or(usize::MAX);
            self.report(|completion| completion.sent(taken));
        }
    }
}
