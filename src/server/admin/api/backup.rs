use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::ApiBody;
use crate::index;
use crate::mirror::Mirror;

/// A client that takes nothing for so long is cut: a backup keeps an old state of the index alive.
const STALL: Duration = Duration::from_mins(1);
/// Pieces of a backup in the channel.
const PIECES: usize = 4;

/// Streams all facts of this moment. A complete backup ends with a line that says so.
pub(in crate::server) fn backup(mirror: &Arc<Mirror>) -> Response<ApiBody> {
    let (pieces, body) = mpsc::channel::<Bytes>(PIECES);
    let cache = Arc::clone(mirror.cache());
    tokio::spawn(async move {
        let out = Pieces { pieces, runtime: tokio::runtime::Handle::current() };
        if let Err(err) = index::back_up(&cache.index, out).await {
            tracing::warn!(error = %err, "a backup was cut short; it cannot be restored");
        }
    });
    let pieces = stream::unfold(body, |mut body| async move { Some((Ok(Frame::data(body.recv().await?)), body)) });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    response
}

/// A writer into a response's body, for use outside the runtime's threads.
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    runtime: tokio::runtime::Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = tokio::time::timeout(STALL, self.pieces.send(Bytes::copy_from_slice(bytes)));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_gone)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
