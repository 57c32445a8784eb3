//! The health of each part of the storage, and the troubles with upstreams. Pulls go on while a part is degraded; `/readyz`
//! and metrics show it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// 1 while a part is healthy, 0 while it is degraded, by the label `part`.
pub type PartGauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// A part that can degrade and heal by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Degraded while facts cannot be written or read.
    Index,
    /// Degraded while blobs cannot be written.
    StoreWrites,
    /// Degraded while there is no space and nothing can be evicted.
    Space,
    /// Degraded after stored bytes were found to be wrong.
    Verify,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Index, Self::StoreWrites, Self::Space, Self::Verify];

    /// The name in metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::StoreWrites => "store_writes",
            Self::Space => "space",
            Self::Verify => "verify",
        }
    }
}

/// The degraded parts, shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Health {
    degraded: Arc<Mutex<BTreeMap<Part, String>>>,
    /// Whole sentences. Their number is bounded by the upstreams and their credentials.
    troubles: Arc<Mutex<BTreeSet<String>>>,
    gauges: PartGauges,
}

impl Health {
    /// Starts with all parts healthy. `gauges` follow each change.
    pub fn new(gauges: PartGauges) -> Self {
        for part in Part::ALL {
            gauges.get_or_create(&label(part)).set(1);
        }
        Self { degraded: Arc::default(), troubles: Arc::default(), gauges }
    }

    /// Marks a part as degraded. `why` tells the operator the failure and the remedy. True if the part was healthy before,
    /// in which case the caller should log it.
    pub fn degrade(&self, part: Part, why: impl Into<String>) -> bool {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.get_or_create(&label(part)).set(0);
        degraded.insert(part, why.into()).is_none()
    }

    /// Marks a part as healthy. True if it was degraded before.
    pub fn heal(&self, part: Part) -> bool {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.get_or_create(&label(part)).set(1);
        degraded.remove(&part).is_some()
    }

    /// Adds a trouble with an upstream: a sentence that names it, what is wrong and what to do.
    pub fn begin_trouble(&self, what: impl Into<String>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).insert(what.into());
    }

    /// Takes back the same sentence.
    pub fn end_trouble(&self, what: &str) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// The degraded parts by name, with the reasons; the part of a trouble with an upstream is `upstream`.
    pub fn degraded(&self) -> Vec<(&'static str, String)> {
        let degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = degraded.iter().map(|(part, why)| (part.name(), why.clone()));
        parts.chain(troubles.iter().map(|what| ("upstream", what.clone()))).collect()
    }
}

const fn label(part: Part) -> [(&'static str, &'static str); 1] {
    [("part", part.name())]
}
