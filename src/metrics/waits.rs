//! A histogram of waiting times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A lock-free histogram, because every answer is observed. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Observed>);

#[derive(Debug, Default)]
struct Observed {
    /// Waits of at most 0.1 ms, 0.2 ms, and so on to 26 s; the last bucket has the longer ones.
    counts: [AtomicU64; Waits::BOUNDS + 1],
    sum_nanos: AtomicU64,
}

impl Waits {
    const BOUNDS: usize = 19;
    const FIRST: Duration = Duration::from_micros(100);

    pub fn observe(&self, wait: Duration) {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let bounds = std::iter::successors(Some(Self::FIRST), |bound| Some(*bound * 2)).take(Self::BOUNDS);
        let bucket = bounds.take_while(|bound| wait > *bound).count();
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl EncodeMetric for Waits {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let mut bound = Self::FIRST.as_secs_f64();
        let mut buckets = Vec::with_capacity(Self::BOUNDS + 1);
        for (nth, count) in self.0.counts.iter().enumerate() {
            buckets.push((if nth < Self::BOUNDS { bound } else { f64::INFINITY }, count.load(Ordering::Relaxed)));
            bound *= 2.0;
        }
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Waits {
    const TYPE: MetricType = MetricType::Histogram;
}
