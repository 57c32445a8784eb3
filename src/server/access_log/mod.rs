//! One line per request, written when its body has ended, however it ended; and the counters of the same moment.

mod format;
pub(in crate::server) mod labels;
pub(in crate::server) mod request_id;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;
use tracing::Level;

use crate::metrics::Metrics;
use crate::mirror::Outcome;
use crate::telemetry;

use labels::Labels;
use request_id::RequestId;

/// Status of a request whose client did not wait for the answer, as nginx writes it.
pub(in crate::server) const CLIENT_LEFT: u16 = 499;

/// What is known of a request as it proceeds.
#[derive(Debug, Clone)]
pub(in crate::server) struct AccessLine {
    pub(in crate::server) request: RequestId,
    pub(in crate::server) client: IpAddr,
    pub(in crate::server) method: Method,
    pub(in crate::server) labels: Arc<Labels>,
    pub(in crate::server) outcome: &'static str,
    pub(in crate::server) status: u16,
    /// What went wrong on our side or upstream's.
    pub(in crate::server) problem: Option<String>,
}

/// What all requests are counted in.
pub(in crate::server) struct Counts {
    metrics: Metrics,
    /// Requests being answered, of at most so many.
    answering: AtomicUsize,
    limit: usize,
}

/// Follows a request to the end of its answer and reports it when dropped.
pub(in crate::server) struct Completion {
    pub(in crate::server) line: AccessLine,
    started: Instant,
    first_byte: Option<Duration>,
    sent_bytes: u64,
    expected_bytes: u64,
    counts: Arc<Counts>,
    /// Whether it has a place among those answered at one time.
    in_flight: bool,
}

pub(in crate::server) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit | Outcome::Revalidated => "hit",
        Outcome::Fill => "fill",
        Outcome::Joined => "joined",
        Outcome::Stale => "stale",
    }
}

impl Counts {
    pub(in crate::server) fn new(metrics: Metrics, limit: usize) -> Self {
        Self { metrics, answering: AtomicUsize::new(0), limit }
    }
}

impl Completion {
    /// From a request's beginning: who leaves before the answer has a line too.
    pub(in crate::server) fn new(line: AccessLine, counts: Arc<Counts>) -> Self {
        counts.metrics.requests_in_flight.inc();
        let started = Instant::now();
        Self { line, started, first_byte: None, sent_bytes: 0, expected_bytes: 0, counts, in_flight: false }
    }

    /// Takes a place among those answered at one time, until the end; `false` if there is none.
    pub(in crate::server) fn take_place(&mut self) -> bool {
        let Counts { answering, limit, .. } = &*self.counts;
        self.in_flight = answering.fetch_add(1, Ordering::Relaxed) < *limit;
        if !self.in_flight {
            answering.fetch_sub(1, Ordering::Relaxed);
        }
        self.in_flight
    }

    /// The answer's header is out; a body of so many bytes follows.
    pub(in crate::server) fn answered(&mut self, status: u16, expected_bytes: u64) {
        self.line.status = status;
        self.expected_bytes = expected_bytes;
    }

    /// The first bytes of the body are there.
    pub(in crate::server) fn begun(&mut self) {
        if self.first_byte.is_none() {
            self.first_byte = Some(self.started.elapsed());
        }
    }

    pub(in crate::server) fn sent(&mut self, bytes: usize) {
        self.begun();
        self.sent_bytes += bytes as u64;
    }

    pub(in crate::server) fn failed(&mut self, error: &impl std::fmt::Display) {
        self.line.problem.get_or_insert_with(|| error.to_string());
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let (line, counts) = (&self.line, &*self.counts);
        counts.metrics.requests_in_flight.dec();
        if self.in_flight {
            counts.answering.fetch_sub(1, Ordering::Relaxed);
        }
        let lasted = self.started.elapsed();
        let waited = self.first_byte.unwrap_or(lasted);
        line.labels.count(&counts.metrics, line.outcome, line.status, self.sent_bytes, waited);
        let level =
            if line.status >= 500 || (line.problem.is_some() && line.status < 300) { Level::WARN } else { Level::INFO };
        // A client that left before the end; a failure of ours has its own words.
        let left = line.problem.is_none()
            && (line.status == CLIENT_LEFT || (line.method == Method::GET && self.sent_bytes < self.expected_bytes));
        let end = format::End {
            level,
            bytes: self.sent_bytes,
            lasted,
            first_byte: self.first_byte,
            problem: line.problem.as_deref().or(left.then_some("the client left")),
        };
        match telemetry::plain() {
            Some(plain) if plain.takes(level) => plain.write(level, |out| format::write(out, plain.format, line, &end)),
            Some(_) => {}
            None => format::trace(line, &end),
        }
    }
}
