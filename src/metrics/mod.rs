//! What operators count. Labels are bounded: an authority is the name of a configured upstream.

mod waits;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub use waits::Waits;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByAuthority {
    pub authority: String,
}

impl ByAuthority {
    pub fn of(authority: &str) -> Self {
        Self { authority: authority.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByRequest {
    pub authority: String,
    pub kind: &'static str,
    pub outcome: &'static str,
    pub status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    pub kind: &'static str,
    pub outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByUpstreamRequest {
    pub authority: String,
    pub kind: &'static str,
    pub method: String,
    /// The status code, or `error` where no answer came.
    pub status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    pub authority: String,
    pub result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByEndpoint {
    pub authority: String,
    pub endpoint: String,
    pub lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByEviction {
    pub authority: String,
    pub reason: &'static str,
}

/// All counters, shared by clones.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub requests: Family<ByRequest, Counter>,
    pub hits: Family<ByAuthority, Counter>,
    pub misses: Family<ByAuthority, Counter>,
    pub joined_readers: Family<ByAuthority, Counter>,
    pub stale_serves: Family<ByAuthority, Counter>,
    pub revalidations: Family<ByResult, Counter>,
    pub upstream_requests: Family<ByUpstreamRequest, Counter>,
    pub upstream_bytes: Family<ByAuthority, Counter>,
    pub served_bytes: Family<ByAuthority, Counter>,
    pub time_to_first_byte: Family<ByOutcome, Waits>,
    pub requests_in_flight: Gauge,
    pub connections_refused: Counter,
    pub fills_running: Family<ByAuthority, Gauge>,
    pub breaker_open: Family<ByEndpoint, Gauge>,
    pub rate_limit_remaining: Family<ByAuthority, Gauge>,
    pub digest_mismatches: Family<ByAuthority, Counter>,
    pub uncached_streams: Family<ByAuthority, Counter>,
    pub stored_bytes: Gauge<u64, AtomicU64>,
    pub verified_bytes: Counter,
    pub damaged_blobs: Counter,
    /// By part, as `Health` names them.
    pub storage_healthy: Family<[(&'static str, &'static str); 1], Gauge>,
    pub log_lines_dropped: Counter,
    pub used_bytes: Family<ByAuthority, Gauge<u64, AtomicU64>>,
    pub pinned_bytes: Gauge<u64, AtomicU64>,
    pub evicted_blobs: Family<ByEviction, Counter>,
    pub evicted_bytes: Family<ByEviction, Counter>,
    pub reservations_refused: Family<ByAuthority, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Self {
            registry: Arc::default(),
            requests: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            joined_readers: Family::default(),
            stale_serves: Family::default(),
            revalidations: Family::default(),
            upstream_requests: Family::default(),
            upstream_bytes: Family::default(),
            served_bytes: Family::default(),
            time_to_first_byte: Family::default(),
            requests_in_flight: Gauge::default(),
            connections_refused: Counter::default(),
            fills_running: Family::default(),
            breaker_open: Family::default(),
            rate_limit_remaining: Family::default(),
            digest_mismatches: Family::default(),
            uncached_streams: Family::default(),
            stored_bytes: Gauge::default(),
            verified_bytes: Counter::default(),
            damaged_blobs: Counter::default(),
            storage_healthy: Family::default(),
            log_lines_dropped: Counter::default(),
            used_bytes: Family::default(),
            pinned_bytes: Gauge::default(),
            evicted_blobs: Family::default(),
            evicted_bytes: Family::default(),
            reservations_refused: Family::default(),
        };
        let mut r = Registry::with_prefix("roadstead");
        r.register("requests", "Requests of clients under /v2", all.requests.clone());
        r.register("hits", "Answers from memory or disk without any bytes from upstream", all.hits.clone());
        r.register("misses", "Answers that had to be fetched", all.misses.clone());
        r.register(
            "joined_readers",
            "Answers that followed a fetch started for another client",
            all.joined_readers.clone(),
        );
        r.register(
            "stale_serves",
            "Answers served stale because upstream could not be asked",
            all.stale_serves.clone(),
        );
        r.register("revalidations", "Checks of a stale tag or list with upstream", all.revalidations.clone());
        r.register("upstream_requests", "Requests sent upstream", all.upstream_requests.clone());
        r.register_with_unit(
            "upstream_received",
            "Body bytes received from upstream",
            Unit::Bytes,
            all.upstream_bytes.clone(),
        );
        r.register_with_unit("served", "Body bytes sent to clients", Unit::Bytes, all.served_bytes.clone());
        r.register_with_unit(
            "time_to_first_byte",
            "From a request's last header to the first byte of its answer's body",
            Unit::Seconds,
            all.time_to_first_byte.clone(),
        );
        r.register("requests_in_flight", "Requests being answered now", all.requests_in_flight.clone());
        r.register(
            "connections_refused",
            "Connections turned away because there were too many",
            all.connections_refused.clone(),
        );
        r.register("fills_running", "Blobs being downloaded now", all.fills_running.clone());
        r.register("breaker_open", "1 while an endpoint is not asked", all.breaker_open.clone());
        r.register("rate_limit_remaining", "Pulls left, as upstream last reported", all.rate_limit_remaining.clone());
        r.register(
            "digest_mismatches",
            "Bodies from upstream that were not what they were asked for",
            all.digest_mismatches.clone(),
        );
        r.register(
            "uncached_streams",
            "Blobs passed through without storing, for lack of space or a failing disk",
            all.uncached_streams.clone(),
        );
        r.register_with_unit("stored", "Bytes of blobs in the store", Unit::Bytes, all.stored_bytes.clone());
        r.register(
            "storage_healthy",
            "1 while a part of the storage is well, 0 while not",
            all.storage_healthy.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines that standard error did not take in time",
            all.log_lines_dropped.clone(),
        );
        r.register_with_unit(
            "used",
            "Bytes of blobs, by where they can come from again",
            Unit::Bytes,
            all.used_bytes.clone(),
        );
        r.register_with_unit("pinned", "Bytes of blobs that pins keep", Unit::Bytes, all.pinned_bytes.clone());
        r.register("evicted_blobs", "Blobs that were evicted, by reason", all.evicted_blobs.clone());
        r.register_with_unit(
            "evicted",
            "Bytes of blobs that were evicted, by reason",
            Unit::Bytes,
            all.evicted_bytes.clone(),
        );
        r.register(
            "reservations_refused",
            "Downloads for which no room could be made",
            all.reservations_refused.clone(),
        );
        r.register_with_unit(
            "verified",
            "Bytes of stored blobs that were read again",
            Unit::Bytes,
            all.verified_bytes.clone(),
        );
        r.register("damaged_blobs", "Stored blobs whose bytes were found to be wrong", all.damaged_blobs.clone());
        all.registry = Arc::new(r);
        all
    }
}

impl Metrics {
    /// The `OpenMetrics` text format, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _infallible = text::encode(&mut out, &self.registry);
        out
    }
}
