//! Bit-rot: stored bytes are read again at a gentle pace, and what is wrong is taken out of reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Mirror;
use crate::clock::Timestamp;
use crate::health::Part;
use crate::index::{BlobRow, Change, LostRow};
use crate::oci::Digest;
use crate::store::{Checked, Found, Store};

/// What is looked at first after an unclean stop: stored so long before it.
const LATELY: Duration = Duration::from_mins(10);
/// Digests that a report names; all are counted.
const MAX_NAMED: usize = 1000;

/// How fast, and how often, stored bytes are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifySettings {
    /// Bytes a second; without it, as fast as the disk gives them.
    pub rate: Option<u64>,
    /// From the beginning of one pass to that of the next; without it, only on demand.
    pub every: Option<Duration>,
}

/// Of a running pass, for who watches it. Shared by reference.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    pub blobs: AtomicU64,
    pub bytes: AtomicU64,
    pub wrong: AtomicU64,
    /// Of [`Store::SHARDS`] directories.
    pub shards: AtomicU64,
}

/// What a pass has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub blobs: u64,
    pub bytes: u64,
    /// Their bytes were wrong; they are in quarantine.
    pub wrong: Vec<Digest>,
    /// Of those, what no upstream can give again.
    pub lost: Vec<Digest>,
    /// The disk does not give them. They stay where they are, and are fetched again when they are asked for.
    pub unreadable: Vec<Digest>,
    /// Right, and unknown to the index: it knows them now.
    pub recorded: u64,
    /// False where it was stopped early.
    pub complete: bool,
}

/// Where a pass of the background is, kept in the storage.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    begun: Timestamp,
    shard: usize,
}

/// A pass under way.
struct Pass<'a> {
    progress: &'a VerifyProgress,
    report: VerifyReport,
    pace: Pace,
    /// Right, and perhaps not known to the index.
    unknown: Vec<Found>,
}

impl<'a> Pass<'a> {
    fn new(rate: Option<u64>, progress: &'a VerifyProgress) -> Self {
        Self { progress, report: VerifyReport::default(), pace: Pace::new(rate), unknown: Vec::new() }
    }
}

/// Keeps to a rate, on average.
struct Pace {
    rate: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, since: Instant::now(), bytes: 0 }
    }

    async fn take(&mut self, bytes: u64) {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return };
        self.bytes += bytes;
        let due = self.since + Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        tokio::time::sleep_until(due).await;
        // What was not used while nothing was to be read is not made up for.
        if due + Duration::from_secs(1) < Instant::now() {
            (self.since, self.bytes) = (Instant::now(), 0);
        }
    }
}

impl Mirror {
    /// Reads everything that is stored, once, at `rate` bytes a second.
    pub async fn verify(&self, rate: Option<u64>, progress: &VerifyProgress) -> VerifyReport {
        let mut pass = Pass::new(rate, progress);
        for shard in 0..Store::SHARDS {
            if !self.verify_shard(shard, &mut pass).await {
                return pass.report;
            }
        }
        pass.report.complete = true;
        self.tell_verified(&pass.report);
        pass.report
    }

    /// Whether to go on.
    async fn verify_shard(&self, shard: usize, pass: &mut Pass<'_>) -> bool {
        match self.store.in_shard(shard).await {
            Ok(found) => {
                for found in found {
                    if self.stopping.is_cancelled() {
                        return false;
                    }
                    self.verify_blob(found, pass).await;
                }
                self.record_unknown(pass).await;
            }
            Err(err) => tracing::warn!(%err, "a directory of blobs cannot be listed; it was not verified"),
        }
        pass.progress.shards.fetch_add(1, Ordering::Relaxed);
        true
    }

    async fn verify_blob(&self, found: Found, pass: &mut Pass<'_>) {
        let Found { digest, size_bytes } = found;
        let Pass { progress, report, pace, unknown } = pass;
        let checked = match self.store.scrub(digest).await {
            Err(checked) => checked,
            Ok(mut scrub) => loop {
                match scrub.step().await {
                    Err(checked) => break checked,
                    Ok(bytes) => {
                        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                        self.metrics.verified_bytes.inc_by(bytes);
                        pace.take(bytes).await;
                    }
                }
            },
        };
        progress.blobs.fetch_add(1, Ordering::Relaxed);
        report.blobs += 1;
        match checked {
            Checked::Right(bytes) => {
                report.bytes += bytes;
                self.store.is_readable_again(digest);
                if matches!(self.index.blob_row(digest).await, Ok(None)) {
                    unknown.push(found);
                }
            }
            Checked::Wrong(bytes) => {
                report.bytes += bytes;
                progress.wrong.fetch_add(1, Ordering::Relaxed);
                let is_lost = self.take_out(digest, size_bytes).await;
                name(&mut report.wrong, digest);
                if is_lost {
                    name(&mut report.lost, digest);
                }
            }
            // Evicted since it was listed.
            Checked::Missing => self.store.is_readable_again(digest),
            Checked::Unreadable => {
                tracing::warn!(%digest, "a stored blob cannot be read; it is fetched again when it is asked for");
                name(&mut report.unreadable, digest);
            }
        }
    }

    /// Blobs whose recording was cut short: their bytes are right, so they are recorded now.
    async fn record_unknown(&self, pass: &mut Pass<'_>) {
        // Who has just stored one is about to record it: only what stays unknown is.
        for _look in 0..2 {
            let mut still = Vec::new();
            for found in pass.unknown.drain(..) {
                let is_filling = self.flights.count(found.digest) > 0;
                if !is_filling && matches!(self.index.blob_row(found.digest).await, Ok(None)) {
                    still.push(found);
                }
            }
            if still.is_empty() {
                return;
            }
            pass.unknown = still;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for Found { digest, size_bytes } in pass.unknown.drain(..) {
            if self.flights.count(digest) > 0 || !matches!(self.index.blob_row(digest).await, Ok(None)) {
                continue;
            }
            let row = BlobRow { size_bytes, origin: None, stored: self.in_order(self.clock.now()) };
            if self.index.apply(vec![Change::PutBlob { digest, row }]).await.is_ok() {
                self.store.count_found(size_bytes);
                pass.report.recorded += 1;
            }
        }
        self.show_stored();
    }

    /// Takes a stored blob with wrong bytes out of reach: file first, row second. Whether no upstream can give it again.
    async fn take_out(&self, digest: Digest, size_bytes: u64) -> bool {
        let origin = self.index.blob_row(digest).await.ok().flatten().and_then(|row| row.origin);
        let member = origin.as_ref().and_then(|authority| self.member(authority));
        let is_lost = member.is_none_or(|member| member.policy.offline);
        self.metrics.damaged_blobs.inc();
        self.forget_hot(digest);
        let now = self.clock.now();
        if let Err(err) = self.store.quarantine(digest, now).await {
            tracing::error!(%digest, %err, "stored bytes are wrong and cannot be moved away; they are not served");
            self.store.withhold(digest);
            self.health.degrade(Part::Verify, "stored bytes are wrong and cannot be moved away: see the log");
            return is_lost;
        }
        let mut changes = vec![Change::RemoveBlob { digest }];
        if is_lost {
            changes.push(Change::PutLost { digest, row: LostRow { size_bytes, found: now } });
        }
        // The writer has logged a failure; a row without a file is a miss.
        let _lost = self.index.apply_durably(changes).await;
        self.show_stored();
        if is_lost {
            tracing::error!(%digest, "stored bytes were wrong, and no upstream can give them again: import the blob");
        } else {
            tracing::warn!(%digest, "stored bytes were wrong; they are in quarantine, and fetched again when asked for");
        }
        let why = "stored bytes were wrong: look after the disk, then run a verify that finds nothing";
        self.health.degrade(Part::Verify, why);
        is_lost
    }

    fn tell_verified(&self, report: &VerifyReport) {
        if report.wrong.is_empty() && report.unreadable.is_empty() {
            self.health.heal(Part::Verify);
        }
    }

    /// Those found wrong that nobody can give again.
    pub async fn lost(&self) -> Vec<(Digest, LostRow)> {
        self.index.lost().await.unwrap_or_default()
    }

    /// After an unclean stop, what was stored shortly before it; then a pass every so often. For ever.
    pub async fn keep_verified(self: Arc<Self>, settings: VerifySettings, was_clean: bool) {
        if !was_clean {
            tokio::select! {
                () = self.verify_lately() => {}
                () = self.stopping.cancelled() => return,
            }
        }
        let Some(every) = settings.every else { return };
        let mut place = self.store.read_note().await.and_then(|note| serde_json::from_slice::<Place>(&note).ok());
        loop {
            let now = self.clock.now();
            // A beginning that lies ahead is one from before the clock was set back.
            let waits = place.filter(|place| place.shard >= Store::SHARDS && place.begun <= now);
            let due = waits.map_or(Duration::ZERO, |place| every.saturating_sub(now.since(place.begun)));
            tokio::select! {
                // Looked at now and then, because clocks are set.
                () = tokio::time::sleep(due.min(Duration::from_hours(1))) => {}
                () = self.stopping.cancelled() => return,
            }
            if due > Duration::from_hours(1) {
                continue;
            }
            let resumed = place.filter(|place| place.shard < Store::SHARDS);
            let Some(done) = self.pass(settings.rate, resumed).await else { return };
            place = Some(done);
        }
    }

    /// One pass in the background, from where the last one was; `None` at shutdown.
    async fn pass(&self, rate: Option<u64>, resumed: Option<Place>) -> Option<Place> {
        let mut place = resumed.unwrap_or(Place { begun: self.clock.now(), shard: 0 });
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(rate, &progress);
        while place.shard < Store::SHARDS {
            let went_on = tokio::select! {
                went_on = self.verify_shard(place.shard, &mut pass) => went_on,
                () = self.stopping.cancelled() => false,
            };
            if !went_on {
                return None;
            }
            place.shard += 1;
            if let Ok(note) = serde_json::to_vec(&place)
                && let Err(err) = self.store.write_note(note).await
            {
                tracing::debug!(%err, "where verify is could not be noted: after a restart it begins anew");
            }
        }
        let report = &pass.report;
        tracing::info!(
            blobs = report.blobs,
            bytes = report.bytes,
            wrong = report.wrong.len(),
            "verified what is stored"
        );
        self.tell_verified(report);
        Some(place)
    }

    async fn verify_lately(&self) {
        let lately = match self.store.stored_lately(LATELY, self.clock.now()).await {
            Ok(lately) => lately,
            Err(err) => {
                tracing::warn!(%err, "what was stored before the unclean stop cannot be found");
                return;
            }
        };
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(None, &progress);
        for found in lately {
            if self.stopping.is_cancelled() {
                return;
            }
            self.verify_blob(found, &mut pass).await;
        }
        self.record_unknown(&mut pass).await;
        let report = &pass.report;
        if report.blobs > 0 {
            tracing::info!(
                blobs = report.blobs,
                wrong = report.wrong.len(),
                recorded = report.recorded,
                "the last stop was unclean; what was stored shortly before it is verified"
            );
        }
    }

    /// Reads those again whose reading failed. Whether all is known of them that can be.
    pub(super) async fn look_again(&self) {
        let progress = VerifyProgress::default();
        let mut pass = Pass::new(None, &progress);
        for digest in self.store.unreadable() {
            // Known to the index, or nobody would have read it.
            self.verify_blob(Found { digest, size_bytes: 0 }, &mut pass).await;
        }
        for digest in pass.report.unreadable {
            // Out of the way, so that it is stored again, though not at once where the same would happen again.
            self.uncacheable.insert(digest, self.clock.now());
            if let Err(err) = self.store.quarantine(digest, self.clock.now()).await {
                tracing::debug!(%digest, %err, "a blob that cannot be read cannot be moved away either");
            } else {
                self.forget_hot(digest);
                let _lost = self.index.apply(vec![Change::RemoveBlob { digest }]).await;
            }
        }
    }
}

fn name(named: &mut Vec<Digest>, digest: Digest) {
    if named.len() < MAX_NAMED {
        named.push(digest);
    }
}
