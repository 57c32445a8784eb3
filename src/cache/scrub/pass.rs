//! A pass over what is stored: each file is read, hashed and judged, and each record is looked for its file.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::judge::{Judgement, look_for, take_out};
use super::{VerifyProgress, VerifyReport, name};
use crate::cache::Cache;
use crate::health::Part;
use crate::index::{BlobRow, Change, PutBlob};
use crate::oci::Digest;
use crate::store::{self, Checked, Shard, StoredFile};

/// A pass under way.
pub(in crate::cache) struct Pass<'a> {
    cache: &'a Cache,
    progress: &'a VerifyProgress,
    pub(in crate::cache) report: VerifyReport,
    pace: Pace,
}

impl<'a> Pass<'a> {
    /// `rate`: bytes a second; without it, as fast as the disk gives them.
    pub(in crate::cache) fn new(cache: &'a Cache, rate: Option<u64>, progress: &'a VerifyProgress) -> Self {
        Self { cache, progress, report: VerifyReport::default(), pace: Pace::new(rate) }
    }

    /// Reads everything that is stored, once.
    pub(super) async fn all(mut self) -> VerifyReport {
        for shard in 0..store::scrub::SHARDS {
            if !self.shard(shard).await {
                return self.report;
            }
        }
        self.report.complete = true;
        self.heal_if_clean();
        self.report
    }

    /// Reads one directory of blobs. `false` when the pass is told to end.
    pub(super) async fn shard(&mut self, shard: usize) -> bool {
        match store::scrub::in_shard(&self.cache.store, shard).await {
            Ok(files) => {
                let mut there = HashSet::with_capacity(files.len());
                for file in files {
                    if self.blob(file).await {
                        there.insert(file.digest);
                    }
                    if self.is_stopped() {
                        return false;
                    }
                }
                if !self.compare(shard, &there).await {
                    return false;
                }
                self.cache.show_stored();
            }
            Err(err) => {
                tracing::warn!(error = %err, "a directory of blobs cannot be listed; it was not verified");
                self.report.unlisted += 1;
            }
        }
        self.progress.shards.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn is_stopped(&self) -> bool {
        self.cache.context.stopping.is_cancelled() || self.progress.is_stopped()
    }

    /// Compares the records of one directory with the files that are there. `false` when the pass is told to end.
    async fn compare(&mut self, shard: Shard, there: &HashSet<Digest>) -> bool {
        let (cache, report) = (self.cache, &mut self.report);
        let rows = match cache.index.blobs_with_prefix(store::scrub::prefix(shard)).await {
            Ok(rows) => rows,
            Err(err) => {
                tracing::warn!(error = %err, "the index does not say which blobs should be in a directory; it was not compared");
                report.uncompared += 1;
                return true;
            }
        };
        for (digest, _) in rows.into_iter().filter(|(digest, _)| !there.contains(digest)) {
            match look_for(cache, digest).await {
                Ok(None) => {}
                Ok(Some(judgement)) => {
                    self.progress.missing.fetch_add(1, Ordering::Relaxed);
                    name(&mut report.missing, digest);
                    if judgement == Judgement::Lost {
                        name(&mut report.lost, digest);
                    }
                }
                Err(err) => {
                    tracing::warn!(%digest, error = %err, "the disk does not say whether a stored blob is there");
                    name(&mut report.unreadable, digest);
                }
            }
            if cache.context.stopping.is_cancelled() || self.progress.is_stopped() {
                return false;
            }
        }
        true
    }

    /// Reads one blob. Ends early, without a judgement, when the pass is told to. `false` if its file has gone.
    pub(in crate::cache) async fn blob(&mut self, file: StoredFile) -> bool {
        let digest = file.digest;
        let Some(checked) = self.read(file).await else { return true };
        let (store, report, progress) = (&self.cache.store, &mut self.report, self.progress);
        progress.blobs.fetch_add(1, Ordering::Relaxed);
        report.blobs += 1;
        match checked {
            Checked::Right(bytes) => {
                report.bytes += bytes;
                store.is_readable_again(digest);
                self.record_if_unknown(StoredFile { digest, size_bytes: bytes }).await;
            }
            Checked::Wrong(bytes, file_id) => {
                report.bytes += bytes;
                let judgement = take_out(self.cache, digest, file_id).await;
                if judgement != Judgement::Another {
                    progress.wrong.fetch_add(1, Ordering::Relaxed);
                    name(&mut report.wrong, digest);
                }
                if judgement == Judgement::Lost {
                    name(&mut report.lost, digest);
                }
            }
            // Evicted since it was listed, or removed by somebody else.
            Checked::Missing => {
                store.is_readable_again(digest);
                return false;
            }
            // Nothing is known of it; the next pass comes by again.
            Checked::NotOpened => {
                tracing::warn!(%digest, "too many files are open: a stored blob was not verified");
            }
            Checked::Unreadable => {
                tracing::warn!(%digest, "a stored blob cannot be read; it is fetched again when it is asked for");
                name(&mut report.unreadable, digest);
            }
        }
        true
    }

    /// Reads and hashes a file at the pace of the pass; `None` when the pass is told to end.
    async fn read(&mut self, file: StoredFile) -> Option<Checked> {
        let Self { cache, progress, pace, .. } = self;
        let mut scrub = match store::scrub::begin(&cache.store, file.digest).await {
            Ok(scrub) => scrub,
            Err(checked) => return Some(checked),
        };
        loop {
            match scrub.step().await {
                Err(checked) => return Some(checked),
                Ok(bytes) => {
                    progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                    cache.context.metrics.verified_bytes.inc_by(bytes);
                    tokio::select! {
                        () = pace.take(bytes) => {}
                        () = progress.stopped() => return None,
                        () = cache.context.stopping.cancelled() => return None,
                    }
                }
            }
        }
    }

    /// Records a blob whose recording was cut short: its bytes are right.
    async fn record_if_unknown(&mut self, StoredFile { digest, size_bytes }: StoredFile) {
        let cache = self.cache;
        // A blob that is being stored is leased until it is recorded or pending: the lease is looked at first.
        if cache.leases.count(digest) > 0
            || cache.pending.contains(digest)
            || !matches!(cache.index.current_blob_row(digest).await, Ok(None))
            || !matches!(store::quarantine::look_at(&cache.store, digest).await, Ok(Some(_)))
        {
            return;
        }
        let row = BlobRow { size_bytes, origin: None, stored: cache.access_time() };
        if cache.index.apply(vec![Change::from(PutBlob { digest, row })]).await.is_ok() {
            self.report.recorded += 1;
        }
    }

    /// Stored bytes are well again when a whole pass has found nothing.
    pub(super) fn heal_if_clean(&self) {
        if self.report.is_clean() {
            self.cache.context.health.heal(Part::Verify);
        }
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
        let Some(due) = self.due(bytes) else { return };
        tokio::time::sleep_until(due).await;
        self.went_on(due, Instant::now());
    }

    /// When more may be read, after so many bytes.
    fn due(&mut self, bytes: u64) -> Option<Instant> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        self.bytes += bytes;
        Some(self.since + Duration::from_secs_f64(self.bytes as f64 / rate as f64))
    }

    /// What was not used while nothing was to be read is not made up for.
    fn went_on(&mut self, due: Instant, now: Instant) {
        if due + Duration::from_secs(1) < now {
            (self.since, self.bytes) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_the_rate_allows_and_nothing_is_made_up_for() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut pace = Pace::new(Some(1000));
        let begin = pace.since;
        for nth in 1..=10 {
            let due = pace.due(500).unwrap();
            assert_eq!(due, begin + nth * SECOND / 2);
            pace.went_on(due, due);
        }
        let late = begin + 3600 * SECOND;
        pace.went_on(begin + 5 * SECOND, late);
        assert_eq!(pace.due(2000), Some(late + 2 * SECOND), "an hour without anything to read leaves no burst");
        assert_eq!(Pace::new(None).due(u64::MAX), None);
    }
}
