//! The labels of a request for its log line and its counters. Requests with the same route share them.

use std::sync::{Arc, LazyLock, OnceLock};

use prometheus_client::metrics::counter::Counter;

use crate::metrics::{ByAuthority, ByOutcome, ByRequest, Metrics, Waits};
use crate::mirror::Target;
use crate::quote::quoted;

use crate::server::request::route::Route;

#[derive(Debug)]
pub(in crate::server) struct Labels {
    pub(in crate::server) kind: &'static str,
    pub(in crate::server) authority: String,
    /// The configured upstream's name, the label in metrics; empty without an upstream.
    pub(in crate::server) label: String,
    pub(in crate::server) repository: String,
    pub(in crate::server) reference: String,
    /// The labels' log text and the counters of the common outcomes, each made once.
    pub(in crate::server) log_text: OnceLock<Vec<u8>>,
    pub(in crate::server) hit: OnceLock<Counters>,
}

/// The counters of one outcome and status.
#[derive(Debug)]
pub(in crate::server) struct Counters {
    requests: Counter,
    of_upstream: Option<OfUpstream>,
}

#[derive(Debug)]
struct OfUpstream {
    served_bytes: Counter,
    outcomes: Option<Counter>,
    time_to_first_byte: Waits,
}

impl Labels {
    pub(in crate::server) fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<Labels>> = LazyLock::new(|| Arc::new(Labels::of_path("")));
        Arc::clone(&UNKNOWN)
    }

    /// For requests to the token server.
    pub(in crate::server) fn token() -> Arc<Self> {
        static TOKEN: LazyLock<Arc<Labels>> = LazyLock::new(|| Arc::new(Labels::new("token", String::new())));
        Arc::clone(&TOKEN)
    }

    /// For a path that is not parsed yet: the log shows the path itself.
    pub(in crate::server) fn of_path(path: &str) -> Self {
        Self::new("other", quoted(path))
    }

    pub(in crate::server) fn of_route(route: &Route) -> Self {
        Self::new(route.endpoint.kind(), route.endpoint.reference())
    }

    pub(in crate::server) fn of_target(route: &Route, target: &Target, label: String) -> Self {
        Self {
            authority: target.authority.to_string(),
            label,
            repository: target.repository.to_string(),
            ..Self::of_route(route)
        }
    }

    /// With the name that a request gave, for one that leads to no registry: nobody knows yet which part of it is one.
    pub(in crate::server) fn with_name(self, name: &str) -> Self {
        Self { repository: name.chars().take(256).collect(), ..self }
    }

    fn new(kind: &'static str, reference: String) -> Self {
        let (authority, label, repository) = (String::new(), String::new(), String::new());
        Self { kind, authority, label, repository, reference, log_text: OnceLock::new(), hit: OnceLock::new() }
    }

    /// Counts a finished request.
    pub(in crate::server) fn count(
        &self,
        metrics: &Metrics,
        outcome: &'static str,
        status: u16,
        served_bytes: u64,
        waited: std::time::Duration,
    ) {
        if outcome == "hit" && status == 200 {
            self.hit.get_or_init(|| self.counters(metrics, outcome, status)).count(served_bytes, waited);
        } else {
            self.counters(metrics, outcome, status).count(served_bytes, waited);
        }
    }

    fn counters(&self, metrics: &Metrics, outcome: &'static str, status: u16) -> Counters {
        let (kind, label) = (self.kind, &self.label);
        let labels = ByRequest { authority: label.clone(), kind, outcome, status };
        let requests = metrics.requests.get_or_create_owned(&labels);
        let of_upstream = (!label.is_empty()).then(|| {
            let authority = ByAuthority::of(label);
            let outcomes = match outcome {
                "hit" => Some(&metrics.hits),
                "fill" => Some(&metrics.misses),
                "joined" => Some(&metrics.joined_readers),
                "stale" => Some(&metrics.stale_serves),
                _ => None,
            };
            OfUpstream {
                served_bytes: metrics.served_bytes.get_or_create_owned(&authority),
                outcomes: outcomes.map(|family| family.get_or_create_owned(&authority)),
                time_to_first_byte: metrics.time_to_first_byte.get_or_create_owned(&ByOutcome { kind, outcome }),
            }
        });
        Counters { requests, of_upstream }
    }
}

impl Counters {
    fn count(&self, served_bytes: u64, waited: std::time::Duration) {
        self.requests.inc();
        if let Some(of_upstream) = &self.of_upstream {
            of_upstream.served_bytes.inc_by(served_bytes);
            if let Some(outcomes) = &of_upstream.outcomes {
                outcomes.inc();
            }
            of_upstream.time_to_first_byte.observe(waited);
        }
    }
}
