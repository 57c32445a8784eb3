//! One line per request, written when its body has ended, however it ended; and the counters of the same moment.

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

use super::line;
use super::request_id::RequestId;
use super::subject::Subject;

/// Status of a request whose client did not wait for the answer, as nginx writes it.
pub(super) const CLIENT_LEFT: u16 = 499;

/// What is known of a request as it proceeds.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) request: RequestId,
    pub(super) client: IpAddr,
    pub(super) method: Method,
    pub(super) subject: Arc<Subject>,
    pub(super) outcome: &'static str,
    pub(super) status: u16,
    /// What went wrong on our side or upstream's.
    pub(super) problem: Option<String>,
}

/// What all requests are counted in.
pub(super) struct Counts {
    metrics: Metrics,
    /// Requests being answered, of at most so many.
    answering: AtomicUsize,
    limit: usize,
}

/// Follows a request to the end of its answer and reports it when dropped.
pub(super) struct Completion {
    pub(super) line: Line,
    started: Instant,
    first_byte: Option<Duration>,
    sent_bytes: u64,
    expected_bytes: u64,
    counts: Arc<Counts>,
    /// Whether it has a place among those answered at one time.
    has_place: bool,
}

pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit | Outcome::Revalidated => "hit",
        Outcome::Fill => "fill",
        Outcome::Joined => "joined",
        Outcome::Stale => "stale",
    }
}

impl Counts {
    pub(super) fn new(metrics: Metrics, limit: usize) -> Self {
        Self { metrics, answering: AtomicUsize::new(0), limit }
    }
}

impl Completion {
    /// From a request's beginning: who leaves before the answer has a line too.
    pub(super) fn new(line: Line, counts: Arc<Counts>) -> Self {
        counts.metrics.requests_in_flight.inc();
        let started = Instant::now();
        Self { line, started, first_byte: None, sent_bytes: 0, expected_bytes: 0, counts, has_place: false }
    }

    /// Takes a place among those answered at one time, until the end; `false` if there is none.
    pub(super) fn take_place(&mut self) -> bool {
        let Counts { answering, limit, .. } = &*self.counts;
        self.has_place = answering.fetch_add(1, Ordering::Relaxed) < *limit;
        if !self.has_place {
            answering.fetch_sub(1, Ordering::Relaxed);
        }
        self.has_place
    }

    /// The answer's header is out; a body of so many bytes follows.
    pub(super) fn answered(&mut self, status: u16, expected_bytes: u64) {
        self.line.status = status;
        self.expected_bytes = expected_bytes;
    }

    /// The first bytes of the body are there.
    pub(super) fn begun(&mut self) {
        if self.first_byte.is_none() {
            self.first_byte = Some(self.started.elapsed());
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.begun();
        self.sent_bytes += bytes as u64;
    }

    pub(super) fn failed(&mut self, error: &impl std::fmt::Display) {
        self.line.problem.get_or_insert_with(|| error.to_string());
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let (line, counts) = (&self.line, &*self.counts);
        counts.metrics.requests_in_flight.dec();
        if self.has_place {
            counts.answering.fetch_sub(1, Ordering::Relaxed);
        }
        let lasted = self.started.elapsed();
        let waited = self.first_byte.unwrap_or(lasted);
        line.subject.count(&counts.metrics, line.outcome, line.status, self.sent_bytes, waited);
        let level =
            if line.status >= 500 || (line.problem.is_some() && line.status < 300) { Level::WARN } else { Level::INFO };
        // A client that left before the end; a failure of ours has its own words.
        let left = line.problem.is_none()
            && (line.status == CLIENT_LEFT || (line.method == Method::GET && self.sent_bytes < self.expected_bytes));
        let end = line::End {
            level,
            bytes: self.sent_bytes,
            lasted,
            first_byte: self.first_byte,
            problem: line.problem.as_deref().or(left.then_some("the client left")),
        };
        match telemetry::plain() {
            Some(plain) if plain.takes(level) => plain.write(level, |out| line::write(out, plain.format, line, &end)),
            Some(_) => {}
            None => line::trace(line, &end),
        }
    }
}
