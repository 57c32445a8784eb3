//! Response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};

use crate::mirror::{BlobReader, PullError};

use super::access_log::Completion;

/// A body in the making, of known length.
pub(super) struct Body {
    inner: UnsyncBoxBody<Bytes, PullError>,
    length: u64,
    completion: Option<Completion>,
}

impl Body {
    pub(super) fn empty() -> Self {
        Self { inner: Empty::new().map_err(|never| match never {}).boxed_unsync(), length: 0, completion: None }
    }

    pub(super) fn bytes(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self { inner: Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), length, completion: None }
    }

    /// The rest of a blob's range. An error cuts the connection short of `Content-Length`.
    pub(super) fn reader(reader: BlobReader, length: u64) -> Self {
        let chunks = stream::try_unfold(reader, |mut reader| async move {
            Ok::<_, PullError>(reader.next().await?.map(|bytes| (Frame::data(bytes), reader)))
        });
        Self { inner: StreamBody::new(chunks).boxed_unsync(), length, completion: None }
    }

    /// Tells `completion` how it went.
    pub(super) fn watched(mut self, completion: Completion) -> Self {
        self.completion = Some(completion);
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = PullError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PullError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Poll::Ready(frame), Some(completion)) = (&polled, &mut self.completion) {
            match frame {
                Some(Ok(frame)) => completion.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(error)) => completion.failed(error),
                None => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
