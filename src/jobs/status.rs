//! The state of the storage at a glance.

use std::convert::Infallible;
use std::sync::Arc;

use serde::Serialize;

use super::JobRunner;
use super::look::Kept;
use super::warm::schedule::WarmState;
use crate::cache::{Quota, scrub};
use crate::index::Counts;
use crate::mirror::{ImagesReport, Mirror};
use crate::upstream::Trouble;

/// The answer of `roadstead status`. `null` stands for a value that cannot be read while the index is not well.
#[derive(Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    /// Bytes of blobs, running downloads and the quarantine, and of the index beyond its first 64 MiB.
    pub used_bytes: u64,
    /// The bytes among them that are in quarantine.
    pub quarantined_bytes: u64,
    /// Bytes that the index and the facts beside it take on the disk.
    pub index_bytes: Option<u64>,
    /// `storage.max_size`, if it is set. Bytes.
    pub max_size: Option<u64>,
    /// Bytes that the disk keeps free.
    pub min_free: u64,
    /// Upstreams with a `max_size` of their own.
    pub quotas: Vec<Quota>,
    /// Number of pins, of the configuration and added by command.
    pub pins: Option<usize>,
    /// Bytes of blobs that pins keep.
    pub pinned_bytes: Option<u64>,
    /// Blobs that were found wrong or missing and cannot be fetched again.
    pub lost: Option<usize>,
    /// The parts that are not well, and the troubles with upstreams; empty without any.
    pub degraded: Vec<Degraded>,
    /// Upstreams that are in trouble, as far as requests have shown since the start.
    pub upstream_troubles: Vec<Trouble>,
    pub facts: Option<Counts>,
    /// Images that could be pulled without upstream, as last counted. `null` on a stopped storage and soon after the start.
    pub images: Option<ImagesReport>,
    /// Lists of `[[warm]]` with their last rounds. `null` on a stopped storage.
    pub warm: Option<Vec<WarmState>>,
}

/// A part of the storage that is not well, or a trouble with an upstream.
#[derive(Debug, Serialize)]
pub struct Degraded {
    /// `upstream` for a trouble with one.
    pub part: &'static str,
    /// The failure, and the remedy.
    pub why: String,
}

/// The last status of a running server, for those who look often.
#[derive(Default)]
pub struct StatusReports(Kept<Arc<Status>>);

impl StatusReports {
    /// A status that is hardly older than it took to make.
    pub async fn get(&self, mirror: &Mirror, job_runner: &JobRunner) -> Arc<Status> {
        let make = async { Ok::<_, Infallible>(Arc::new(Status::of_running(mirror, job_runner).await)) };
        match self.0.get(make).await {
            Ok(status) => status,
            Err(never) => match never {},
        }
    }
}

impl Status {
    /// Reads the state now, of a server with jobs.
    pub async fn of_running(mirror: &Mirror, job_runner: &JobRunner) -> Self {
        Self { warm: Some(job_runner.warm_states()), ..Self::of(mirror).await }
    }

    /// Reads the state now.
    pub async fn of(mirror: &Mirror) -> Self {
        let cache = mirror.cache();
        let degraded = cache.context.health.degraded().into_iter();
        let limits = cache.limits();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            used_bytes: cache.used_bytes(),
            quarantined_bytes: cache.store.quarantined_bytes(),
            index_bytes: cache.index.bytes_on_disk().await.ok(),
            max_size: limits.max_size,
            min_free: limits.min_free,
            quotas: cache.quotas(),
            pins: cache.pins.list(&cache.index).await.ok().map(|pins| pins.len()),
            pinned_bytes: cache.pinned_bytes().await.ok(),
            lost: scrub::lost(cache).await.ok().map(|lost| lost.len()),
            degraded: degraded.map(|(part, why)| Degraded { part, why }).collect(),
            upstream_troubles: mirror.troubles(),
            facts: cache.counts().await.ok(),
            images: mirror.images(),
            warm: None,
        }
    }
}
