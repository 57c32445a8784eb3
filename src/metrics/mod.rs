//! Metrics for operators. Labels are bounded: an authority is the name of a configured upstream.

mod process;
mod waits;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

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
    /// The status code, or `error` if no answer came.
    pub status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByUpstreamKind {
    pub authority: String,
    pub kind: &'static str,
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
pub struct ByTrouble {
    pub authority: String,
    pub endpoint: String,
    pub trouble: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByEviction {
    pub authority: String,
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCompletion {
    pub authority: String,
    pub what: &'static str,
    pub result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByImages {
    pub authority: String,
    pub state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCoverage {
    pub list: String,
    pub outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByList {
    pub list: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByIdentity {
    pub identity: String,
    pub result: &'static str,
}

impl ByIdentity {
    /// A client that did not say who it is, or lied.
    pub const fn unknown() -> Self {
        Self { identity: String::new(), result: "unknown" }
    }
}

/// All metrics, shared by clones.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    started: process::Started,
    pub requests: Family<ByRequest, Counter>,
    pub hits: Family<ByAuthority, Counter>,
    pub misses: Family<ByAuthority, Counter>,
    pub joined_readers: Family<ByAuthority, Counter>,
    pub stale_serves: Family<ByAuthority, Counter>,
    pub revalidations: Family<ByResult, Counter>,
    pub young_tags: Family<ByResult, Counter>,
    pub upstream_requests: Family<ByUpstreamRequest, Counter>,
    pub upstream_response: Family<ByUpstreamKind, Waits>,
    pub upstream_bytes: Family<ByAuthority, Counter>,
    pub served_bytes: Family<ByAuthority, Counter>,
    pub time_to_first_byte: Family<ByOutcome, Waits>,
    pub requests_in_flight: Gauge,
    /// Identities are configured names, at most 1000; the rest is `other`.
    pub identity_requests: Family<ByIdentity, Counter>,
    pub logins: Family<[(&'static str, &'static str); 1], Counter>,
    pub pulls_not_recorded: Counter,
    pub connections_refused: Counter,
    pub fills_running: Family<ByAuthority, Gauge>,
    pub breaker_open: Family<ByEndpoint, Gauge>,
    /// By kind, with the names of `upstream::TroubleKind`, `login_refused` and `no_identity`.
    pub upstream_trouble: Family<ByTrouble, Gauge>,
    pub upstream_second_tries: Family<ByAuthority, Counter>,
    pub rate_limit_remaining: Family<ByAuthority, Gauge>,
    pub digest_mismatches: Family<ByAuthority, Counter>,
    pub uncached_streams: Family<ByAuthority, Counter>,
    pub stored_bytes: Gauge<u64, AtomicU64>,
    pub verified_bytes: Counter,
    pub damaged_blobs: Counter,
    /// By part, with the names of `Health`.
    pub storage_healthy: Family<[(&'static str, &'static str); 1], Gauge>,
    pub log_lines_dropped: Counter,
    pub used_bytes: Family<ByAuthority, Gauge<u64, AtomicU64>>,
    pub pinned_bytes: Gauge<u64, AtomicU64>,
    pub evicted_blobs: Family<ByEviction, Counter>,
    pub evicted_bytes: Family<ByEviction, Counter>,
    pub reservations_refused: Family<ByAuthority, Counter>,
    pub completed: Family<ByCompletion, Counter>,
    pub images: Family<ByImages, Gauge>,
    pub coverage: Family<ByCoverage, Gauge>,
    pub warm_failed_images: Family<ByList, Gauge>,
    pub warm_last_good: Family<ByList, Gauge>,
    /// `storage.max_size`; 0 without one.
    pub max_size: Gauge<u64, AtomicU64>,
    /// An upstream's own `max_size`.
    pub quota: Family<ByAuthority, Gauge<u64, AtomicU64>>,
    /// Always 1, with the version as its label.
    pub build_info: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut made = Registering(Registry::with_prefix("roadstead"));
        let metrics = Self {
            requests: made.one("requests", "Requests of clients under /v2"),
            hits: made.one("hits", "Answers from memory or disk without any bytes from upstream"),
            misses: made.one("misses", "Answers that had to be fetched"),
            joined_readers: made.one("joined_readers", "Answers that followed a fetch started for another client"),
            stale_serves: made.one("stale_serves", "Answers served stale because upstream could not be asked"),
            revalidations: made.one("revalidations", "Checks of a stale tag or list with upstream"),
            young_tags: made.one("young_tags", "Moves of tags that `min_age` was looked at for, by result"),
            upstream_requests: made.one("upstream_requests", "Requests sent upstream"),
            upstream_response: made.with_unit(
                "upstream_response",
                "From a request sent upstream to the head of its answer",
                Unit::Seconds,
            ),
            upstream_bytes: made.with_unit("upstream_received", "Body bytes received from upstream", Unit::Bytes),
            served_bytes: made.with_unit("served", "Body bytes sent to clients", Unit::Bytes),
            time_to_first_byte: made.with_unit(
                "time_to_first_byte",
                "From a request's last header to the first byte of its answer's body",
                Unit::Seconds,
            ),
            requests_in_flight: made.one("requests_in_flight", "Requests being answered now"),
            identity_requests: made.one("identity_requests", "Requests by who sent them, where access is configured"),
            logins: made.one("logins", "Passwords that were checked, by result"),
            pulls_not_recorded: made
                .one("pulls_not_recorded", "Pulls that `roadstead who` does not know, for want of time"),
            connections_refused: made.one("connections_refused", "Connections turned away because there were too many"),
            fills_running: made.one("fills_running", "Blobs being downloaded now"),
            breaker_open: made.one("breaker_open", "1 while an endpoint is not asked"),
            upstream_trouble: made.one("upstream_trouble", "1 while an endpoint is in trouble, by kind of trouble"),
            upstream_second_tries: made
                .one("upstream_second_tries", "Questions asked once more, as the only endpoint failed for a moment"),
            rate_limit_remaining: made.one("rate_limit_remaining", "Pulls left, as upstream last reported"),
            digest_mismatches: made
                .one("digest_mismatches", "Bodies from upstream that were not what they were asked for"),
            uncached_streams: made
                .one("uncached_streams", "Blobs passed through without storing, for lack of space or a failing disk"),
            stored_bytes: made.with_unit("stored", "Bytes that count towards max_size", Unit::Bytes),
            verified_bytes: made.with_unit("verified", "Bytes of stored blobs that were read again", Unit::Bytes),
            damaged_blobs: made.one("damaged_blobs", "Stored blobs whose bytes were found to be wrong"),
            storage_healthy: made.one("storage_healthy", "1 while a part of the storage is well, 0 while not"),
            log_lines_dropped: made.one("log_lines_dropped", "Log lines that standard error did not take in time"),
            used_bytes: made.with_unit("used", "Bytes of blobs, by where they can come from again", Unit::Bytes),
            pinned_bytes: made.with_unit("pinned", "Bytes of blobs that pins keep", Unit::Bytes),
            evicted_blobs: made.one("evicted_blobs", "Blobs that were evicted, by reason"),
            evicted_bytes: made.with_unit("evicted", "Bytes of blobs that were evicted, by reason", Unit::Bytes),
            reservations_refused: made.one("reservations_refused", "Downloads for which no room could be made"),
            completed: made.one("completed", "What the background proved or fetched before a client asked for it"),
            images: made.one("images", "Images that are held whole, and those that lack blobs"),
            coverage: made
                .one("coverage_images", "Images of a list that would survive an outage, and those that would not"),
            warm_failed_images: made
                .one("warm_failed_images", "Images of a `[[warm]]` list that the last round did not pull whole"),
            warm_last_good: made.with_unit(
                "warm_last_good_timestamp",
                "When a round of a `[[warm]]` list last ended with every image held, since the epoch",
                Unit::Seconds,
            ),
            max_size: made.with_unit("max_size", "What `storage.max_size` says; 0 without a limit", Unit::Bytes),
            quota: made.with_unit("quota", "What an upstream's own `max_size` says", Unit::Bytes),
            build_info: made.one("build_info", "1, with the version of this program"),
            started: process::Started::now(),
            registry: Arc::new(made.0),
        };
        metrics.build_info.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        metrics
    }
}

/// Makes metrics and registers them.
struct Registering(Registry);

impl Registering {
    fn one<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn with_unit<M: Metric + Clone + Default>(&mut self, name: &str, help: &str, unit: Unit) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

impl Metrics {
    /// All metrics in the `OpenMetrics` text format, which Prometheus reads. Reads the figures of this process from `/proc`.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _infallible = text::encode_registry(&mut out, &self.registry)
            .and_then(|()| process::encode(&mut out, self.started))
            .and_then(|()| text::encode_eof(&mut out));
        out
    }
}
