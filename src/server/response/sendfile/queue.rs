//! Passes file parts through hyper, which handles bytes only.
//!
//! hyper queues the buffers of a body and hands them to the connection in that order, as slices. A [`FilePart`] is such
//! a buffer. Its slices lie in [`PLACEHOLDER`], whose content is never sent, and its file waits in the connection's
//! [`SendfileQueue`]. The stream recognises the slices by their address and sends the file instead.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use crate::cache::blocks::BlockWatch;
use crate::fill::unreadable;
use crate::store::BlobFile;

use crate::server::access_log::Completion;
use crate::server::response::stream_progress::TrackedBytes;

/// The completion of a response, which ends when the last clone is dropped.
pub(in crate::server) type Shared = Arc<Mutex<Completion>>;

/// Number of marks. Neighbours in a queue have different marks, so that a file part out of order is noticed.
const MARKS: usize = 64;

const SLICE: usize = 64 * 1024;

/// Placeholder for the bytes of files. The slices of a file part begin at its mark.
static PLACEHOLDER: [u8; SLICE + MARKS] = [0; SLICE + MARKS];

/// The file parts that one connection has to send, in the order of its responses.
#[derive(Clone, Default)]
pub(in crate::server) struct SendfileQueue(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    pushed: usize,
    /// Bytes of files that the socket has taken.
    sent: u64,
    /// Bytes of files that hyper has counted as written.
    advanced: u64,
}

struct Waiting {
    file: BlobFile,
    offset: u64,
    length: usize,
    mark: usize,
    watch: Option<BlockWatch>,
    completion: Option<Shared>,
}

/// The buffers of response bodies.
pub(in crate::server) enum Chunk {
    Bytes(Bytes),
    /// Bytes on HTTP/2.
    TrackedBytes(TrackedBytes),
    File(FilePart),
}

/// A buffer that represents a part of a file.
pub(in crate::server) struct FilePart {
    sendfile_queue: SendfileQueue,
    remaining: usize,
    mark: usize,
}

/// Whether a slice lies in the placeholder.
pub(in crate::server) fn is_placeholder(slice: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&slice.as_ptr())
}

impl SendfileQueue {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a part of a file. The result must be the body's next frame. `completion` counts the bytes sent.
    pub(in crate::server) fn push(
        &self,
        file: BlobFile,
        offset: u64,
        length: usize,
        watch: Option<BlockWatch>,
        completion: Option<Shared>,
    ) -> Chunk {
        let mut queue = self.queue();
        let mark = queue.pushed % MARKS;
        queue.pushed = queue.pushed.wrapping_add(1);
        queue.waiting.push_back(Waiting { file, offset, length, mark, watch, completion });
        Chunk::File(FilePart { sendfile_queue: self.clone(), remaining: length, mark })
    }

    /// Sends from the first file part, whose placeholder `slices` begin with. The socket must not block.
    pub(in crate::server) fn send(&self, socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // Only one task sends, so no other task sees the queue without its first part.
        let mut first = self.queue().waiting.pop_front().ok_or_else(out_of_order)?;
        let sent = first.send(socket, slices);
        if let Ok(sent) = sent {
            first.offset += sent as u64;
            first.length -= sent;
            self.queue().sent += sent as u64;
        }
        // Dropping the last part of a response ends it, and writes its access line.
        if first.length > 0 {
            self.queue().waiting.push_front(first);
        }
        sent
    }

    /// Fails if hyper has consumed placeholder bytes that were not sent as a file: they must never reach the client.
    pub(in crate::server) fn check(&self) -> io::Result<()> {
        let queue = self.queue();
        if queue.advanced > queue.sent { Err(out_of_order()) } else { Ok(()) }
    }
}

impl Waiting {
    fn send(&mut self, socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let meant = PLACEHOLDER.as_ptr().wrapping_add(self.mark);
        // The slices of the next part may follow.
        let asked: usize = slices.iter().take_while(|slice| slice.as_ptr() == meant).map(|slice| slice.len()).sum();
        if asked == 0 {
            return Err(out_of_order());
        }
        if let Some(blocked) = self.watch.as_mut().and_then(BlockWatch::blocked) {
            if let Some(completion) = &self.completion {
                completion.lock().unwrap_or_else(PoisonError::into_inner).failed(&blocked);
            }
            return Err(io::Error::other(blocked.to_string()));
        }
        let sent = self.file.send(socket, self.offset, asked.min(self.length));
        if let Some(completion) = &self.completion {
            let mut completion = completion.lock().unwrap_or_else(PoisonError::into_inner);
            match &sent {
                Ok(sent) => completion.sent(*sent),
                Err(err) if is_of_the_file(err) => completion.failed(&unreadable(err)),
                Err(_) => {}
            }
        }
        sent
    }
}

fn out_of_order() -> io::Error {
    io::Error::other("pieces of files are out of order")
}

/// Whether the error comes from the file and not from the client's connection.
fn is_of_the_file(err: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, WouldBlock};
    let connection = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, WouldBlock];
    !connection.contains(&err.kind())
}

impl FilePart {
    fn slice(&self, length: usize) -> &'static [u8] {
        PLACEHOLDER.get(self.mark..self.mark + length.min(SLICE)).unwrap_or_default()
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::TrackedBytes(given) => given.remaining(),
            Self::File(file) => file.remaining,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::TrackedBytes(given) => given.chunk(),
            Self::File(file) => file.slice(file.remaining),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::TrackedBytes(given) => given.advance(count),
            Self::File(file) => {
                file.remaining = file.remaining.saturating_sub(count);
                file.sendfile_queue.queue().advanced += count as u64;
            }
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::TrackedBytes(given) => given.chunks_vectored(slices),
            Self::File(file) => {
                let mut left = file.remaining;
                let mut filled = 0;
                for slice in slices {
                    if left == 0 {
                        break;
                    }
                    let part = file.slice(left);
                    *slice = IoSlice::new(part);
                    left -= part.len();
                    filled += 1;
                }
                filled
            }
        }
    }
}
