//! What the rows of each upstream take. Clients make names up, and upstreams answer them: rows cost nothing to make, so that
//! those of one upstream have a bound.
//!
//! The sums are in memory. A new row adds to them. What has gone is found out when all rows are measured: soon after the
//! start, now and then, and when a sum comes near its bound.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::index::Change;
use crate::oci::Authority;

/// Beyond its bound by this part, an upstream's new rows are not written: they cost a request later.
const BEYOND: u64 = 8;

/// Whose the rows of a registry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOwner {
    /// The upstream as it is configured: the registries of a wildcard share one bound.
    pub upstream: String,
    /// Most that its rows should take. Bytes.
    pub bound: u64,
}

/// What the rows of an upstream take, and most that they should take. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSum {
    pub bytes: u64,
    pub bound: u64,
}

/// By upstream.
pub type RowSums = HashMap<String, RowSum>;
type OwnerOf = Box<dyn Fn(&Authority) -> Option<RowOwner> + Send + Sync>;

/// What the rows take, as far as somebody asks upstreams for more of them.
#[derive(Default)]
pub(in crate::index) struct Rows {
    owner_of: OnceLock<OwnerOf>,
    sums: Mutex<RowSums>,
    /// Notified when an upstream has too many.
    pub(in crate::index) crowded: Notify,
}

impl Rows {
    /// From here on there is a bound. The owner of a registry that is not bounded is `None`.
    pub(in crate::index) fn bound(&self, owner_of: OwnerOf) {
        // A second one is not heard.
        let _is_first = self.owner_of.set(owner_of);
    }

    pub(in crate::index) fn owner_of(&self, authority: &Authority) -> Option<RowOwner> {
        self.owner_of.get().and_then(|owner_of| owner_of(authority))
    }

    fn lock(&self) -> MutexGuard<'_, RowSums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a change adds. `false` if there are too many rows: it is not to be made then.
    pub(in crate::index) fn admit(&self, change: &Change) -> bool {
        let Some((authority, bytes)) = change.new_row() else { return true };
        let Some(RowOwner { upstream, bound }) = self.owner_of(authority) else { return true };
        let mut sums = self.lock();
        let sum = sums.entry(upstream).or_insert(RowSum { bytes: 0, bound });
        let next = sum.bytes.saturating_add(bytes);
        let is_admitted = next <= bound.saturating_add(bound / BEYOND);
        if is_admitted {
            sum.bytes = next;
        }
        drop(sums);
        if next > bound {
            self.crowded.notify_one();
        }
        is_admitted
    }

    pub(in crate::index) fn sums(&self) -> RowSums {
        self.lock().clone()
    }

    /// What was measured, with what was added since the sums were `before`.
    pub(in crate::index) fn measured(&self, before: &RowSums, mut measured: RowSums) {
        let mut sums = self.lock();
        for (upstream, sum) in &*sums {
            let added = sum.bytes.saturating_sub(before.get(upstream).map_or(0, |before| before.bytes));
            if added > 0 {
                measured.entry(upstream.clone()).or_insert(RowSum { bytes: 0, ..*sum }).bytes += added;
            }
        }
        *sums = measured;
    }

    /// So much of an upstream's rows has gone.
    pub(in crate::index) fn dropped(&self, upstream: &str, bytes: u64) {
        if let Some(sum) = self.lock().get_mut(upstream) {
            sum.bytes = sum.bytes.saturating_sub(bytes);
        }
    }

    pub(in crate::index) fn of(&self, upstream: &str) -> u64 {
        self.lock().get(upstream).map_or(0, |sum| sum.bytes)
    }
}
