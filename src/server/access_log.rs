//! One line per request, written when its body has ended, however it ended; and the counters of the same moment.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::{ByAuthority, ByOutcome, ByRequest, Metrics};
use crate::mirror::{Outcome, PullError};

/// Status of a request whose client did not wait for the answer, as nginx writes it.
pub(super) const CLIENT_LEFT: u16 = 499;

/// What is known of a request as it proceeds.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) request: String,
    pub(super) client: IpAddr,
    pub(super) method: String,
    pub(super) kind: &'static str,
    pub(super) authority: String,
    /// The configured upstream, as metrics count it.
    pub(super) label: String,
    pub(super) repository: String,
    pub(super) reference: String,
    pub(super) outcome: &'static str,
    pub(super) status: u16,
    /// What went wrong on our side or upstream's.
    pub(super) problem: Option<String>,
}

/// Follows a request to the end of its answer and reports it when dropped.
pub(super) struct Completion {
    pub(super) line: Line,
    started: Instant,
    first_byte: Option<Duration>,
    sent_bytes: u64,
    expected_bytes: u64,
    metrics: Metrics,
    /// The request's place among those answered at one time.
    slot: Option<OwnedSemaphorePermit>,
}

pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit | Outcome::Revalidated => "hit",
        Outcome::Fill => "fill",
        Outcome::Joined => "joined",
        Outcome::Stale => "stale",
    }
}

impl Completion {
    /// From a request's beginning: who leaves before the answer has a line too.
    pub(super) fn new(line: Line, metrics: Metrics) -> Self {
        metrics.requests_in_flight.inc();
        Self { line, started: Instant::now(), first_byte: None, sent_bytes: 0, expected_bytes: 0, metrics, slot: None }
    }

    pub(super) fn hold(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
    }

    /// The answer's header is out; a body of so many bytes follows.
    pub(super) fn answered(&mut self, status: u16, expected_bytes: u64) {
        self.line.status = status;
        self.expected_bytes = expected_bytes;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        if self.first_byte.is_none() {
            self.first_byte = Some(self.started.elapsed());
        }
        self.sent_bytes += bytes as u64;
    }

    pub(super) fn failed(&mut self, error: &PullError) {
        self.line.problem.get_or_insert_with(|| error.to_string());
    }

    fn count(&self) {
        let (line, metrics) = (&self.line, &self.metrics);
        let requests =
            ByRequest { authority: line.label.clone(), kind: line.kind, outcome: line.outcome, status: line.status };
        metrics.requests.get_or_create(&requests).inc();
        if line.label.is_empty() {
            return;
        }
        let authority = ByAuthority { authority: line.label.clone() };
        metrics.served_bytes.get_or_create(&authority).inc_by(self.sent_bytes);
        match line.outcome {
            "hit" => metrics.hits.get_or_create(&authority).inc(),
            "fill" => metrics.misses.get_or_create(&authority).inc(),
            "joined" => metrics.joined_readers.get_or_create(&authority).inc(),
            "stale" => metrics.stale_serves.get_or_create(&authority).inc(),
            _ => 0,
        };
        let waited = self.first_byte.unwrap_or_else(|| self.started.elapsed());
        let labels = ByOutcome { kind: line.kind, outcome: line.outcome };
        metrics.time_to_first_byte.get_or_create(&labels).observe(waited);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.metrics.requests_in_flight.dec();
        self.count();
        let line = &self.line;
        // Microseconds are as far as these figures can be trusted.
        let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        // A client that left before the end; a failure of ours has its own words.
        let left = line.problem.is_none()
            && (line.status == CLIENT_LEFT || (line.method == "GET" && self.sent_bytes < self.expected_bytes));
        let problem = line.problem.as_deref().or(left.then_some("the client left"));
        macro_rules! write_at {
            ($level:ident) => {
                tracing::$level!(
                    client = %line.client,
                    method = line.method,
                    kind = line.kind,
                    authority = line.authority,
                    repository = line.repository,
                    reference = line.reference,
                    status = line.status,
                    outcome = line.outcome,
                    bytes = self.sent_bytes,
                    ms = millis(self.started.elapsed()),
                    first_byte_ms = self.first_byte.map(millis),
                    request = line.request,
                    problem,
                    "request"
                )
            };
        }
        if line.status >= 500 || (line.problem.is_some() && line.status < 300) {
            write_at!(warn);
        } else {
            write_at!(info);
        }
    }
}
