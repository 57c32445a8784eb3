//! What is not well, by part. Pulls go on meanwhile; who looks at `/readyz` or the metrics is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// 1 while a part is well, 0 while it is not, by the label `part`.
pub type PartGauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// What can go wrong by itself, and heal by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Facts cannot be written, or read.
    Index,
    /// Bytes cannot be written.
    StoreWrites,
    /// There is no room, and nothing can be evicted.
    Space,
    /// Stored bytes were found to be wrong.
    Verify,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Index, Self::StoreWrites, Self::Space, Self::Verify];

    /// As in metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::StoreWrites => "store_writes",
            Self::Space => "space",
            Self::Verify => "verify",
        }
    }
}

/// Shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Health {
    degraded: Arc<Mutex<BTreeMap<Part, String>>>,
    gauges: PartGauges,
}

impl Health {
    /// All parts are well. `gauges` follow.
    pub fn new(gauges: PartGauges) -> Self {
        for part in Part::ALL {
            gauges.get_or_create(&label(part)).set(1);
        }
        Self { degraded: Arc::default(), gauges }
    }

    /// A part is not well; `why` is for the operator: what failed, and what to do. True if it was well until now: that is
    /// the time to log it.
    pub fn degrade(&self, part: Part, why: impl Into<String>) -> bool {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.get_or_create(&label(part)).set(0);
        degraded.insert(part, why.into()).is_none()
    }

    /// A part is well. True if it was not until now.
    pub fn heal(&self, part: Part) -> bool {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.get_or_create(&label(part)).set(1);
        degraded.remove(&part).is_some()
    }

    /// What is not well now, and why.
    pub fn degraded(&self) -> Vec<(Part, String)> {
        let degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        degraded.iter().map(|(part, why)| (*part, why.clone())).collect()
    }
}

const fn label(part: Part) -> [(&'static str, &'static str); 1] {
    [("part", part.name())]
}
