//! Buffers log lines for standard error, so that no request ever waits for it.
//!
//! Each thread appends to a buffer, nearly always without sharing it. One thread empties all buffers: at once for
//! important lines, a moment later for frequent ones, so that thousands of lines cost one write. A crash may lose the
//! lines of that moment.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Number of buffers. More threads than this share them.
const BUFFERS: usize = 16;
/// Bytes at which a buffer takes no more lines.
const FULL_BYTES: usize = 512 * 1024;
/// Bytes at which a buffer is emptied at once.
const ENOUGH_BYTES: usize = 64 * 1024;
/// How long frequent lines are gathered before a write.
const GATHER: Duration = Duration::from_millis(25);
/// Wait before the next try if standard error is non-blocking and full.
const RETRY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    Gathered,
}

pub(super) struct LogWriter {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    buffers: [Mutex<Vec<u8>>; BUFFERS],
    /// Set while some buffer has lines.
    waiting: AtomicBool,
    /// Set when lines must be written without further gathering.
    hurry: AtomicBool,
    dropped: AtomicU64,
    /// Number of flushes requested.
    asked: AtomicU64,
    /// Number of flushes done.
    done: Mutex<u64>,
    is_done: Condvar,
}

thread_local! {
    static BUFFER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % BUFFERS
    };
}

impl LogWriter {
    /// Starts the thread that writes to `out`. Fails if the thread cannot be started.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.run(out))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    pub(super) fn append(&self, pace: Pace, format: impl FnOnce(&mut Vec<u8>)) {
        let shared = &*self.shared;
        let mine = BUFFER.try_with(|mine| *mine).unwrap_or(0);
        let Some(buffer) = shared.buffers.get(mine) else { return };
        let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() >= FULL_BYTES {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        format(&mut buffer);
        let enough = buffer.len() >= ENOUGH_BYTES;
        drop(buffer);
        if pace == Pace::AtOnce || enough {
            self.hurry();
        } else if !shared.waiting.load(Ordering::Relaxed) && !shared.waiting.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }

    fn hurry(&self) {
        let shared = &*self.shared;
        if !shared.hurry.load(Ordering::Relaxed) && !shared.hurry.swap(true, Ordering::AcqRel) {
            shared.waiting.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines added before are written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let shared = &*self.shared;
        let mine = shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.hurry();
        // The thread may be parked although `hurry` was set already.
        self.thread.unpark();
        let done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let _given_up = shared.is_done.wait_timeout_while(done, limit, |done| *done < mine);
    }
}

impl Shared {
    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut reported = 0;
        loop {
            while !self.waiting.load(Ordering::Acquire) && self.asked.load(Ordering::Acquire) == self.done() {
                std::thread::park();
            }
            self.gather();
            let asked = self.asked.load(Ordering::Acquire);
            // Cleared before the buffers are read, so that a line added later sets them again. The order matters: a thread
            // that finds `hurry` set relies on a read to come.
            self.waiting.store(false, Ordering::Release);
            self.hurry.store(false, Ordering::Release);
            let mut all_written = true;
            for buffer in &self.buffers {
                // The lock is held during a swap, never during a write.
                std::mem::swap(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner), &mut batch);
                if let Err(left) = write(&mut out, &batch) {
                    all_written = false;
                    let lines = left.split_inclusive(|byte| *byte == b'\n').count() as u64;
                    self.dropped.fetch_add(lines, Ordering::Relaxed);
                }
                batch.clear();
                // Gives back memory that a stall has let grow.
                batch.shrink_to(2 * ENOUGH_BYTES);
            }
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            self.is_done.notify_all();
            let dropped = self.dropped.load(Ordering::Relaxed);
            if all_written && dropped > reported {
                tracing::warn!(lines = dropped - reported, "log lines were dropped: standard error did not take them");
                reported = dropped;
            }
        }
    }

    /// Gathers for [`GATHER`] by the clock: a leftover unpark token makes parking return at once.
    fn gather(&self) {
        let begun = Instant::now();
        while !self.hurry.load(Ordering::Acquire) {
            let left = GATHER.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn done(&self) -> u64 {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all bytes, or returns the unwritten rest.
fn write<'a>(out: &mut impl Write, mut bytes: &'a [u8]) -> Result<(), &'a [u8]> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(bytes),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(RETRY),
            Err(_) => return Err(bytes),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A standard error that takes each write only when the test allows it.
    struct Slow {
        let_in: mpsc::Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.let_in.recv().map_err(|_closed| io::Error::from(io::ErrorKind::BrokenPipe))?;
            let _nobody_looks = self.taken.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (LogWriter, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (letting, let_in) = mpsc::channel();
        let (taken, taking) = mpsc::channel();
        (LogWriter::start(Slow { let_in, taken }).unwrap(), letting, taking)
    }

    #[test]
    fn lines_come_in_order_and_in_few_writes() {
        let (lines, letting, taking) = slow();
        for n in 0..100 {
            lines.append(Pace::Gathered, |out| writeln!(out, "{n}").unwrap());
        }
        (0..100).for_each(|_| letting.send(()).unwrap());
        lines.flush(Duration::from_secs(20));
        let writes: Vec<String> = taking.try_iter().collect();
        let written: Vec<usize> = writes.concat().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(written, (0..100).collect::<Vec<_>>());
        assert!(writes.len() < 100, "{}", writes.len());
    }

    #[test]
    fn a_token_left_by_who_woke_the_thread_does_not_end_the_gathering() {
        let begun = Instant::now();
        std::thread::current().unpark();
        Shared::default().gather();
        assert!(begun.elapsed() >= GATHER);
        let hurried = Shared { hurry: true.into(), ..Shared::default() };
        hurried.gather();
    }

    #[test]
    fn a_standard_error_that_takes_nothing_holds_nobody_up() {
        let (lines, letting, taking) = slow();
        let line = [b'x'; 1023];
        // Twice the capacity. This returns although nothing is taken.
        for _ in 0..2 * (2 * FULL_BYTES / 1024) {
            lines.append(Pace::Gathered, |out| out.extend(line.iter().chain(b"\n")));
        }
        let dropped = lines.dropped();
        assert!(dropped > 0);
        (0..100).for_each(|_| letting.send(()).unwrap());
        lines.flush(Duration::from_secs(20));
        let written = taking.try_iter().map(|text| text.lines().count() as u64).sum::<u64>();
        assert_eq!(written + dropped, 2 * (2 * FULL_BYTES as u64 / 1024), "every line is written or counted");
    }

    #[test]
    fn every_line_comes_out_however_threads_and_paces_meet() {
        let (lines, letting, taking) = slow();
        let (lines, total) = (&lines, 4 * 500);
        (0..total).for_each(|_| letting.send(()).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..500 {
                        let pace = if (n + thread) % 3 == 0 { Pace::AtOnce } else { Pace::Gathered };
                        lines.append(pace, |out| writeln!(out, "{thread} {n}").unwrap());
                    }
                });
            }
        });
        // No flush: the last lines come out by themselves.
        let mut seen = 0;
        while seen < total {
            seen += taking.recv_timeout(Duration::from_secs(20)).unwrap().lines().count();
        }
        assert_eq!((seen, lines.dropped()), (total, 0));
    }

    #[test]
    fn a_standard_error_that_is_closed_costs_the_lines_only() {
        let (lines, letting, _taking) = slow();
        drop(letting);
        lines.append(Pace::AtOnce, |out| out.extend_from_slice(b"one\ntwo\n"));
        lines.flush(Duration::from_secs(20));
        assert_eq!(lines.dropped(), 2);
    }
}
