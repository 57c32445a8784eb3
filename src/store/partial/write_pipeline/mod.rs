//! What comes for a partial file is written, told of, and hashed, by one job off the runtime.
//!
//! A piece is told of before it is hashed, and hashed while the core's cache still has it. The job goes on as long as there
//! is something to do: a fast download wakes no thread for its next piece.

mod writer;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::hash::Hashing;
pub(super) use writer::Writer;

/// Who is told of what has been written.
pub trait Progress: Send + Sync + 'static {
    /// `by` has written these bytes: they will not change. Returns how many there are from the file's beginning without a
    /// gap.
    fn wrote(&self, by: u32, range: Range<u64>) -> u64;
}

/// Several may give it pieces, each its own bytes, in any order. What comes in order is hashed as it comes; the rest is
/// read back when the gap before it is closed.
pub struct WritePipeline {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    progress: Box<dyn Progress>,
    queue: Mutex<Queue>,
    hashed: AtomicU64,
    /// The job has nothing to do, or cannot go on.
    rests: Notify,
}

struct Queue {
    requests: VecDeque<WriteRequest>,
    /// The file has so many bytes without a gap.
    prefix: u64,
    /// With the job while it runs. A job that failed does not bring it back.
    hashing: Option<Hashing>,
    /// Why the job cannot go on.
    failure: Option<Failure>,
    is_stopped: bool,
}

/// An error that everybody is told.
struct Failure {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

struct WriteRequest {
    by: u32,
    at: u64,
    chunks: Vec<Bytes>,
    done: oneshot::Sender<io::Result<()>>,
}

enum Step {
    Write(WriteRequest),
    /// Up to here.
    ReadBack(u64),
}

impl WritePipeline {
    pub(super) fn new(writer: Writer, hashing: Hashing, progress: Box<dyn Progress>) -> Self {
        let hashed = hashing.done().into();
        let queue =
            Queue { requests: VecDeque::new(), prefix: 0, hashing: Some(hashing), failure: None, is_stopped: false };
        Self { shared: Arc::new(Shared { writer, progress, queue: Mutex::new(queue), hashed, rests: Notify::new() }) }
    }

    /// Writes chunks one behind the other. They are written even if the future is dropped.
    pub fn write(&self, by: u32, at: u64, chunks: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (done, written) = oneshot::channel();
        let mut queue = self.shared.queue();
        if queue.failure.is_none() {
            queue.requests.push_back(WriteRequest { by, at, chunks, done });
        }
        self.work(queue);
        let shared = Arc::clone(&self.shared);
        async move { written.await.unwrap_or_else(|_given_up| Err(shared.why())) }
    }

    /// The file's first `prefix` bytes are there: they are hashed, as far as they are not.
    pub fn hash_up_to(&self, prefix: u64) {
        let mut queue = self.shared.queue();
        queue.prefix = queue.prefix.max(prefix);
        self.work(queue);
    }

    /// Bytes hashed so far, from the file's beginning.
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Acquire)
    }

    /// Waits until there is nothing to do; resolves at once if that came to be since the last call. For one caller at a
    /// time.
    pub async fn rests(&self) -> io::Result<()> {
        self.shared.rests.notified().await;
        let has_failed = self.shared.queue().failure.is_some();
        if has_failed { Err(self.shared.why()) } else { Ok(()) }
    }

    /// Nothing is written or hashed any more when this returns. `None` if the hash is lost.
    pub async fn end(self) -> Option<Hashing> {
        loop {
            {
                let mut queue = self.shared.queue();
                queue.is_stopped = true;
                if queue.hashing.is_some() || queue.failure.is_some() {
                    return queue.hashing.take();
                }
            }
            self.shared.rests.notified().await;
        }
    }

    /// Starts the job, if it does not run. A runtime that ends drops it at once, and that takes the queue.
    fn work(&self, mut queue: MutexGuard<'_, Queue>) {
        let hashing = queue.hashing.take();
        drop(queue);
        if let Some(hashing) = hashing {
            let job = Job { shared: Arc::clone(&self.shared), has_ended: false };
            drop(tokio::task::spawn_blocking(move || job.run(hashing)));
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, tells, hashes.
    fn write(&self, WriteRequest { by, at, chunks, done }: WriteRequest, hashing: &mut Hashing) -> io::Result<()> {
        if let Err(err) = self.writer.write(at, &chunks) {
            let _gone = done.send(Err(err));
            return Ok(());
        }
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let prefix = self.progress.wrote(by, at..at + length);
        let _gone = done.send(Ok(()));
        {
            let mut queue = self.queue();
            queue.prefix = queue.prefix.max(prefix);
        }
        if at == hashing.done() {
            for chunk in &chunks {
                hashing.take(chunk);
            }
        }
        // More than was written, so that what lies far behind is not left to the end.
        let end = prefix.min(hashing.done() + 2 * length);
        while hashing.done() < end {
            hashing.read_back(end)?;
        }
        Ok(())
    }

    fn give_up(&self, err: &io::Error) {
        let mut queue = self.queue();
        queue.failure.get_or_insert_with(|| Failure {
            code: err.raw_os_error(),
            kind: err.kind(),
            text: err.to_string(),
        });
        queue.requests.clear();
    }

    /// Why it was given up.
    fn why(&self) -> io::Error {
        match &self.queue().failure {
            Some(Failure { code: Some(code), .. }) => io::Error::from_raw_os_error(*code),
            Some(Failure { code: None, kind, text }) => io::Error::new(*kind, text.clone()),
            None => lost(),
        }
    }
}

/// The job. However it ends, nobody goes on waiting for it.
struct Job {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Job {
    fn run(mut self, mut hashing: Hashing) {
        let shared = Arc::clone(&self.shared);
        loop {
            let step = {
                let mut queue = shared.queue();
                if let Some(request) = queue.requests.pop_front() {
                    Step::Write(request)
                } else if hashing.done() < queue.prefix && !queue.is_stopped {
                    Step::ReadBack(queue.prefix)
                } else {
                    queue.hashing = Some(hashing);
                    self.has_ended = true;
                    return;
                }
            };
            let hashed = match step {
                Step::Write(request) => shared.write(request, &mut hashing),
                Step::ReadBack(end) => hashing.read_back(end),
            };
            shared.hashed.store(hashing.done(), Ordering::Release);
            if let Err(err) = hashed {
                shared.give_up(&err);
                self.has_ended = true;
                return;
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.give_up(&lost());
        }
        self.shared.rests.notify_one();
    }
}

fn lost() -> io::Error {
    io::Error::other("an earlier step on this file failed")
}

#[cfg(test)]
mod tests;
