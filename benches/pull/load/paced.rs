//! Requests at times of their own, however long the answers take.

#![expect(clippy::disallowed_methods, reason = "a thread that waits for the time of its next request")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Stream;

/// Of some answers, the shortest first.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which this many of a hundred answers came.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// Threads with a connection each, until [`Paced::end`].
pub(crate) struct Paced {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Duration>>>,
}

impl Paced {
    /// Each connection asks for the paths in turns, once in `every`. An answer's time counts from when it was due, so that
    /// one that is late makes those behind it late as well. Every answer has to be a 200.
    pub(crate) fn start(to: SocketAddr, paths: &[String], connections: u32, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let start = |nth: u32| {
            let (paths, stop) = (paths.to_vec(), Arc::clone(&stop));
            // Not all at one moment.
            let first = begun + every * nth / connections;
            thread::spawn(move || ask(to, &paths, first, every, &stop))
        };
        let threads = (0..connections).map(start).collect();
        Self { stop, threads }
    }

    pub(crate) fn end(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.threads.into_iter().map(|thread| thread.join().expect("every request is answered"));
        let mut all: Vec<Duration> = joined.flatten().collect();
        all.sort_unstable();
        Latencies(all)
    }
}

fn ask(to: SocketAddr, paths: &[String], first: Instant, every: Duration, stop: &AtomicBool) -> Vec<Duration> {
    let mut stream = Stream::connect(to).expect("the server accepts connections");
    let (mut due, mut latencies) = (first, Vec::new());
    for path in paths.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.get(path).expect("every request is answered");
        latencies.push(due.elapsed());
        due += every;
    }
    latencies
}
