//! One log line per request, written when its body has ended in any way. Counters change at the same moment.

mod format;
pub(in crate::server) mod labels;
pub(in crate::server) mod pulls;
pub(in crate::server) mod request_id;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::time::Instant;
use tracing::Level;

use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::mirror::Outcome;
use crate::oci::Digest;
use crate::recent::{Asked, FailedPull, Recent, SlowPull};
use crate::shared_bytes::SharedBytes;
use crate::telemetry;

use labels::Labels;
use request_id::RequestId;

/// Status in the log if the client left before the answer, as in nginx.
pub(in crate::server) const CLIENT_LEFT: u16 = 499;

/// The fields of a request's line, filled in as it proceeds.
#[derive(Debug, Clone)]
pub(in crate::server) struct AccessLine {
    pub(in crate::server) request: RequestId,
    pub(in crate::server) client: IpAddr,
    pub(in crate::server) method: Method,
    pub(in crate::server) labels: Arc<Labels>,
    /// Who sent it, where that is asked.
    pub(in crate::server) identity: Option<Arc<str>>,
    pub(in crate::server) outcome: &'static str,
    pub(in crate::server) status: u16,
    /// `User-Agent`, as it was sent.
    pub(in crate::server) agent: Option<HeaderValue>,
    /// The failure on our side or the upstream's.
    pub(in crate::server) error: Option<String>,
    /// What an operator can do about it; may be empty.
    pub(in crate::server) remedy: &'static str,
}

/// The counters of all requests.
pub(in crate::server) struct Counts {
    metrics: Metrics,
    recent: Recent,
    /// Requests being answered now, at most `limit`.
    answering: AtomicUsize,
    limit: usize,
    /// Of these, the streams of each HTTP/2 client: one connection can have many.
    streams: Mutex<HashMap<IpAddr, usize>>,
    /// What answers hold in memory.
    contents: SharedBytes<Digest>,
}

/// Follows a request to the end of its answer and reports it when dropped.
pub(in crate::server) struct Completion {
    pub(in crate::server) line: AccessLine,
    started: Instant,
    first_byte: Option<Duration>,
    sent_bytes: u64,
    expected_bytes: u64,
    counts: Arc<Counts>,
    /// Whether this request counts in `answering`.
    in_flight: bool,
    /// Whether it counts in `streams`.
    is_stream: bool,
}

pub(in crate::server) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit | Outcome::Revalidated => "hit",
        Outcome::Fill => "fill",
        Outcome::Joined => "joined",
        Outcome::Stale => "stale",
        Outcome::Unproven => "unproven",
        Outcome::Pinned => "pinned",
        Outcome::Alias => "alias",
        Outcome::HeldBack => "held_back",
    }
}

impl Counts {
    pub(in crate::server) fn new(
        (metrics, recent): (Metrics, Recent),
        limit: usize,
        contents: SharedBytes<Digest>,
    ) -> Self {
        Self { metrics, recent, answering: AtomicUsize::new(0), limit, streams: Mutex::default(), contents }
    }

    /// Whether three quarters of all places, or of the memory of answers, are taken: clients that take nothing have to go
    /// sooner.
    pub(in crate::server) fn is_crowded(&self) -> bool {
        self.answering.load(Ordering::Relaxed) >= self.limit - self.limit / 4 || self.contents.is_crowded()
    }

    /// Counts a stream; `false` if its client has three quarters of all places.
    fn add_stream(&self, client: IpAddr) -> bool {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let own = streams.entry(network(client)).or_default();
        let is_admitted = *own < self.limit - self.limit / 4;
        *own += usize::from(is_admitted);
        is_admitted
    }

    fn remove_stream(&self, client: IpAddr) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = streams.entry(network(client)) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// One client may have any address of its network (RFC 4291 section 2.5.4).
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => client,
    }
}

impl Completion {
    /// Begins with the request, so that a client that leaves before the answer has a line too.
    pub(in crate::server) fn new(line: AccessLine, counts: Arc<Counts>) -> Self {
        counts.metrics.requests_in_flight.inc();
        let started = Instant::now();
        Self {
            line,
            started,
            first_byte: None,
            sent_bytes: 0,
            expected_bytes: 0,
            counts,
            in_flight: false,
            is_stream: false,
        }
    }

    /// Counts this request as being answered until its end; `false` if the limit is reached, of all or of an HTTP/2 client.
    pub(in crate::server) fn admit(&mut self, is_stream: bool) -> bool {
        if is_stream && !self.counts.add_stream(self.line.client) {
            return false;
        }
        self.is_stream = is_stream;
        let Counts { answering, limit, .. } = &*self.counts;
        self.in_flight = answering.fetch_add(1, Ordering::Relaxed) < *limit;
        if !self.in_flight {
            answering.fetch_sub(1, Ordering::Relaxed);
        }
        self.in_flight
    }

    /// Records the status and the length of the body to come.
    pub(in crate::server) fn answered(&mut self, status: u16, expected_bytes: u64) {
        self.line.status = status;
        self.expected_bytes = expected_bytes;
    }

    /// Records the time of the body's first byte.
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
        self.line.error.get_or_insert_with(|| error.to_string());
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let (line, counts) = (&self.line, &*self.counts);
        counts.metrics.requests_in_flight.dec();
        if self.in_flight {
            counts.answering.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_stream {
            counts.remove_stream(line.client);
        }
        let lasted = self.started.elapsed();
        let waited = self.first_byte.unwrap_or(lasted);
        line.labels.count(&counts.metrics, line.outcome, line.status, self.sent_bytes, waited);
        let level =
            if line.status >= 500 || (line.error.is_some() && line.status < 300) { Level::WARN } else { Level::INFO };
        // The client left before the end. A failure of ours is logged as such instead.
        let left = line.error.is_none()
            && (line.status == CLIENT_LEFT || (line.method == Method::GET && self.sent_bytes < self.expected_bytes));
        let end = format::End {
            level,
            bytes: self.sent_bytes,
            lasted,
            first_byte: self.first_byte,
            error: line.error.as_deref().or(left.then_some("the client left")),
        };
        match telemetry::plain() {
            Some(plain) if plain.takes(level) => plain.write(level, |out| format::write(out, plain.format, line, &end)),
            Some(_) => {}
            None => format::trace(line, &end),
        }
        if level == Level::WARN || line.status == 429 {
            counts.recent.add_failed(line.failed());
        } else if counts.recent.is_slow(lasted) {
            counts.recent.add_slow(line.slow(lasted, self.first_byte, self.sent_bytes));
        }
    }
}

impl AccessLine {
    fn asked(&self) -> Asked {
        let Labels { kind, authority, repository, reference, .. } = &*self.labels;
        Asked {
            request: self.request.as_str().to_owned(),
            kind,
            authority: authority.clone(),
            repository: repository.clone(),
            reference: reference.clone(),
        }
    }

    fn failed(&self) -> FailedPull {
        FailedPull {
            at: Timestamp::default(),
            asked: self.asked(),
            status: self.status,
            error: self.error.clone().unwrap_or_default(),
            remedy: self.remedy,
            count: 0,
        }
    }

    fn slow(&self, lasted: Duration, first_byte: Option<Duration>, bytes: u64) -> SlowPull {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        SlowPull {
            at: Timestamp::default(),
            asked: self.asked(),
            outcome: self.outcome,
            ms: millis(lasted),
            first_byte_ms: first_byte.map(millis),
            bytes,
        }
    }
}
