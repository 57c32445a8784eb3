//! What the mirror does now, and what came of it since the start.

use serde::Serialize;

use crate::cache::retention::Evicted;
use crate::clock::Timestamp;
use crate::metrics::{ByAuthority, Counter, Metrics};
use crate::mirror::{Mirror, RunningFill, UpstreamState};
use crate::recent::{FailedPull, SlowPull};
use crate::telemetry;
use crate::upstream::EndpointState;

/// Downloads that are told.
const MAX_FILLS: usize = 100;

/// The answer to `activity`.
#[derive(Debug, Serialize)]
pub struct Activity {
    pub as_of: Timestamp,
    /// When this process began, which its counts begin with.
    pub since: Timestamp,
    /// Requests that are being answered.
    pub answering: u64,
    /// What all upstreams have together.
    pub total: Traffic,
    /// The upstreams as they are configured, by name.
    pub upstreams: Vec<UpstreamActivity>,
    /// Downloads that run or wait, those that began first; at most 100.
    pub filling: Vec<RunningFill>,
    /// All of them.
    pub filling_total: usize,
    /// The slowest answers of the last day, the slowest first.
    pub slow: Vec<SlowPull>,
    /// The last failures, the last one first; equal ones are counted together.
    pub failed: Vec<FailedPull>,
    /// The last warnings in the log that are about no request, the last one first; equal ones are counted together.
    pub warnings: Vec<LoggedWarning>,
}

/// A warning in the log.
#[derive(Debug, Serialize)]
pub struct LoggedWarning {
    pub at: Timestamp,
    /// The message, and its fields as `key=value`.
    pub text: String,
    pub count: u64,
}

/// What went through since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Answers from what is held, without any bytes from upstream.
    pub hits: u64,
    /// Answers that had to be fetched.
    pub misses: u64,
    /// Answers that followed a download for another client.
    pub joined: u64,
    /// Answers from what is held, because upstream could not be asked.
    pub stale: u64,
    /// The part of all these that was held: from 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    pub served_bytes: u64,
    pub received_bytes: u64,
    /// Bytes that clients got and upstream did not have to send.
    pub saved_bytes: u64,
    pub evicted_blobs: u64,
    pub evicted_bytes: u64,
}

/// One upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamActivity {
    pub upstream: String,
    /// By configuration: it is never asked.
    pub offline: bool,
    /// None of a wildcard.
    pub endpoints: Vec<EndpointState>,
    /// Pulls that are left, as it last reported; `None` if it never did.
    pub ration_left: Option<i64>,
    /// Bytes of blobs that can come from it again.
    pub used_bytes: u64,
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What the mirror does now. Reads counters, and no index.
pub fn activity(mirror: &Mirror) -> Activity {
    let context = &mirror.cache().context;
    let (filling, filling_total) = mirror.running_fills(MAX_FILLS);
    let used = mirror.cache().used_by_upstream();
    let told = |state: UpstreamState| {
        let used_bytes = used.get(&state.name).copied().unwrap_or(0);
        upstream_activity(&context.metrics, state, used_bytes)
    };
    let upstreams: Vec<_> = mirror.upstreams().into_iter().map(told).collect();
    let as_of = context.clock.now();
    Activity {
        as_of,
        since: as_of.before(context.clock.uptime()),
        answering: u64::try_from(context.metrics.requests_in_flight.get()).unwrap_or(0),
        total: upstreams.iter().map(|upstream| upstream.traffic).fold(Traffic::default(), Traffic::and),
        upstreams,
        filling,
        filling_total,
        slow: context.recent.slow(),
        failed: context.recent.failed(),
        warnings: telemetry::last_warnings().into_iter().map(warning).collect(),
    }
}

fn warning(of: telemetry::Warning) -> LoggedWarning {
    LoggedWarning { at: Timestamp::from_millis(of.at_millis), text: of.text, count: of.count }
}

fn upstream_activity(metrics: &Metrics, state: UpstreamState, used_bytes: u64) -> UpstreamActivity {
    let UpstreamState { name, is_offline, endpoints } = state;
    // Nothing is made in the metrics by looking.
    let ration_left = metrics.rate_limit_remaining.get(&ByAuthority::of(&name)).map(|left| left.get());
    let traffic = Traffic::of(metrics, &name);
    UpstreamActivity { upstream: name, offline: is_offline, endpoints, ration_left, used_bytes, traffic }
}

impl Traffic {
    fn of(metrics: &Metrics, upstream: &str) -> Self {
        let labels = ByAuthority::of(upstream);
        let count = |family: &prometheus_client::metrics::family::Family<ByAuthority, Counter>| {
            family.get(&labels).map_or(0, |counter| counter.get())
        };
        let Evicted { blobs, bytes } = Evicted::of(metrics, upstream);
        let counts = Self {
            hits: count(&metrics.hits),
            misses: count(&metrics.misses),
            joined: count(&metrics.joined_readers),
            stale: count(&metrics.stale_serves),
            served_bytes: count(&metrics.served_bytes),
            received_bytes: count(&metrics.upstream_bytes),
            evicted_blobs: blobs,
            evicted_bytes: bytes,
            ..Self::default()
        };
        counts.rated()
    }

    fn and(self, other: Self) -> Self {
        let sum = Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            joined: self.joined + other.joined,
            stale: self.stale + other.stale,
            served_bytes: self.served_bytes + other.served_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            evicted_blobs: self.evicted_blobs + other.evicted_blobs,
            evicted_bytes: self.evicted_bytes + other.evicted_bytes,
            ..Self::default()
        };
        Self { saved_bytes: self.saved_bytes + other.saved_bytes, ..sum.rated() }
    }

    /// With what follows from the counts.
    fn rated(self) -> Self {
        let held = self.hits + self.stale;
        let all = held + self.misses + self.joined;
        let hit_ratio = (all > 0).then(|| held as f64 / all as f64);
        // Before an answer, there were only refusals.
        let saved_bytes = if all == 0 { 0 } else { self.served_bytes.saturating_sub(self.received_bytes) };
        Self { hit_ratio, saved_bytes, ..self }
    }
}
