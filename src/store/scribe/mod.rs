//! What comes for a partial file is written, told of, and hashed, by one job off the runtime.
//!
//! A piece is told of before it is hashed, and hashed while the core's cache still has it. The job goes on as long as there
//! is something to do: a fast download wakes no thread for its next piece.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::hashing::Hashing;
use super::writer::Writer;

/// Who is told of what has been written.
pub trait Progress: Send + Sync + 'static {
    /// `by` has written these bytes: they will not change. Returns how many there are from the file's beginning without a
    /// gap.
    fn wrote(&self, by: u32, range: Range<u64>) -> u64;
}

/// Several may give it pieces, each its own bytes, in any order. What comes in order is hashed as it comes; the rest is
/// read back when the gap before it is closed.
pub struct Scribe {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    progress: Box<dyn Progress>,
    desk: Mutex<Desk>,
    hashed: AtomicU64,
    /// The job has nothing to do, or cannot go on.
    rests: Notify,
}

struct Desk {
    orders: VecDeque<Order>,
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

struct Order {
    by: u32,
    at: u64,
    chunks: Vec<Bytes>,
    done: oneshot::Sender<io::Result<()>>,
}

enum Step {
    Write(Order),
    /// Up to here.
    ReadBack(u64),
}

impl Scribe {
    pub(super) fn new(writer: Writer, hashing: Hashing, progress: Box<dyn Progress>) -> Self {
        let hashed = hashing.done().into();
        let desk =
            Desk { orders: VecDeque::new(), prefix: 0, hashing: Some(hashing), failure: None, is_stopped: false };
        Self { shared: Arc::new(Shared { writer, progress, desk: Mutex::new(desk), hashed, rests: Notify::new() }) }
    }

    /// Writes chunks one behind the other. They are written even if the future is dropped.
    pub fn write(&self, by: u32, at: u64, chunks: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (done, written) = oneshot::channel();
        let mut desk = self.shared.desk();
        if desk.failure.is_none() {
            desk.orders.push_back(Order { by, at, chunks, done });
        }
        self.work(desk);
        let shared = Arc::clone(&self.shared);
        async move { written.await.unwrap_or_else(|_given_up| Err(shared.why())) }
    }

    /// The file's first `prefix` bytes are there: they are hashed, as far as they are not.
    pub fn hash_up_to(&self, prefix: u64) {
        let mut desk = self.shared.desk();
        desk.prefix = desk.prefix.max(prefix);
        self.work(desk);
    }

    /// Bytes hashed so far, from the file's beginning.
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Acquire)
    }

    /// Waits until there is nothing to do; resolves at once if that came to be since the last call. For one caller at a
    /// time.
    pub async fn rests(&self) -> io::Result<()> {
        self.shared.rests.notified().await;
        let has_failed = self.shared.desk().failure.is_some();
        if has_failed { Err(self.shared.why()) } else { Ok(()) }
    }

    /// Nothing is written or hashed any more when this returns. `None` if the hash is lost.
    pub async fn end(self) -> Option<Hashing> {
        loop {
            {
                let mut desk = self.shared.desk();
                desk.is_stopped = true;
                if desk.hashing.is_some() || desk.failure.is_some() {
                    return desk.hashing.take();
                }
            }
            self.shared.rests.notified().await;
        }
    }

    /// Starts the job, if it does not run. A runtime that ends drops it at once, and that takes the desk.
    fn work(&self, mut desk: MutexGuard<'_, Desk>) {
        let hashing = desk.hashing.take();
        drop(desk);
        if let Some(hashing) = hashing {
            let at_work = AtWork { shared: Arc::clone(&self.shared), has_ended: false };
            drop(tokio::task::spawn_blocking(move || at_work.run(hashing)));
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, tells, hashes.
    fn write(&self, Order { by, at, chunks, done }: Order, hashing: &mut Hashing) -> io::Result<()> {
        if let Err(err) = self.writer.write(at, &chunks) {
            let _gone = done.send(Err(err));
            return Ok(());
        }
        let length: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let prefix = self.progress.wrote(by, at..at + length);
        let _gone = done.send(Ok(()));
        {
            let mut desk = self.desk();
            desk.prefix = desk.prefix.max(prefix);
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
        let mut desk = self.desk();
        desk.failure.get_or_insert_with(|| Failure {
            code: err.raw_os_error(),
            kind: err.kind(),
            text: err.to_string(),
        });
        desk.orders.clear();
    }

    /// Why it was given up.
    fn why(&self) -> io::Error {
        match &self.desk().failure {
            Some(Failure { code: Some(code), .. }) => io::Error::from_raw_os_error(*code),
            Some(Failure { code: None, kind, text }) => io::Error::new(*kind, text.clone()),
            None => lost(),
        }
    }
}

/// The job. However it ends, nobody goes on waiting for it.
struct AtWork {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl AtWork {
    fn run(mut self, mut hashing: Hashing) {
        let shared = Arc::clone(&self.shared);
        loop {
            let step = {
                let mut desk = shared.desk();
                if let Some(order) = desk.orders.pop_front() {
                    Step::Write(order)
                } else if hashing.done() < desk.prefix && !desk.is_stopped {
                    Step::ReadBack(desk.prefix)
                } else {
                    desk.hashing = Some(hashing);
                    self.has_ended = true;
                    return;
                }
            };
            let hashed = match step {
                Step::Write(order) => shared.write(order, &mut hashing),
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

impl Drop for AtWork {
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
