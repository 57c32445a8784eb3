//! A pass over what is stored: each file is read, hashed and judged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Lost, VerifyProgress, VerifyReport, name};
use crate::health::Part;
use crate::index::{BlobRow, Change, IndexError, Unrecoverable};
use crate::mirror::Mirror;
use crate::oci::Digest;
use crate::store::{Checked, FileId, QuarantineOutcome, Store, StoredFile};

/// A pass under way.
pub(in crate::mirror) struct Pass<'a> {
    progress: &'a VerifyProgress,
    pub(in crate::mirror) report: VerifyReport,
    pace: Pace,
    /// Right, and perhaps not known to the index.
    unknown: Vec<StoredFile>,
}

impl<'a> Pass<'a> {
    pub(in crate::mirror) fn new(rate: Option<u64>, progress: &'a VerifyProgress) -> Self {
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

/// What became of a blob whose bytes were wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) enum TakenOut {
    /// It is fetched again at the next request.
    ComesAgain,
    /// No upstream can give it again.
    Lost,
    /// It had been fetched again, and stays.
    Another,
    /// The index does not say which; it is not served, and looked at again soon.
    Withheld,
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
    pub(in crate::mirror) async fn verify_shard(&self, shard: usize, pass: &mut Pass<'_>) -> bool {
        match self.store.in_shard(shard).await {
            Ok(found) => {
                for found in found {
                    self.verify_blob(found, pass).await;
                    if self.stopping.is_cancelled() || pass.progress.is_stopped() {
                        return false;
                    }
                }
                self.record_unknown(pass).await;
            }
            Err(err) => {
                tracing::warn!(%err, "a directory of blobs cannot be listed; it was not verified");
                pass.report.unlisted += 1;
            }
        }
        pass.progress.shards.fetch_add(1, Ordering::Relaxed);
        true
    }

    async fn told_to_end(&self, progress: &VerifyProgress) {
        tokio::select! {
            () = progress.stopped() => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Ends early, without a judgement, where the pass is told to.
    pub(in crate::mirror) async fn verify_blob(&self, found: StoredFile, pass: &mut Pass<'_>) {
        let digest = found.digest;
        let Pass { progress, report, pace, unknown } = pass;
        let checked = match self.store.scrub(digest).await {
            Err(checked) => checked,
            Ok(mut scrub) => loop {
                match scrub.step().await {
                    Err(checked) => break checked,
                    Ok(bytes) => {
                        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                        self.metrics.verified_bytes.inc_by(bytes);
                        tokio::select! {
                            () = pace.take(bytes) => {}
                            () = self.told_to_end(progress) => return,
                        }
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
            Checked::Wrong(bytes, file_id) => {
                report.bytes += bytes;
                let taken_out = self.take_out(digest, file_id).await;
                if taken_out != TakenOut::Another {
                    progress.wrong.fetch_add(1, Ordering::Relaxed);
                    name(&mut report.wrong, digest);
                }
                if taken_out == TakenOut::Lost {
                    name(&mut report.lost, digest);
                }
            }
            // Evicted since it was listed.
            Checked::Missing => self.store.is_readable_again(digest),
            // Nothing is known of it; the next pass comes by again.
            Checked::NotOpened => {
                tracing::warn!(%digest, "too many files are open: a stored blob was not verified");
            }
            Checked::Unreadable => {
                tracing::warn!(%digest, "a stored blob cannot be read; it is fetched again when it is asked for");
                name(&mut report.unreadable, digest);
            }
        }
    }

    /// Blobs whose recording was cut short: their bytes are right, so they are recorded now.
    pub(in crate::mirror) async fn record_unknown(&self, pass: &mut Pass<'_>) {
        // Who has just stored one is about to record it: only what stays unknown is.
        for _look in 0..2 {
            let mut still = Vec::new();
            for found in pass.unknown.drain(..) {
                let is_filling = self.in_flight.count(found.digest) > 0;
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
        for StoredFile { digest, size_bytes } in pass.unknown.drain(..) {
            if self.in_flight.count(digest) > 0 || !matches!(self.index.blob_row(digest).await, Ok(None)) {
                continue;
            }
            let row = BlobRow { size_bytes, origin: None, stored: self.monotonic(self.clock.now()) };
            if self.index.apply(vec![Change::PutBlob { digest, row }]).await.is_ok() {
                self.store.count_found(size_bytes);
                self.pending.doubt();
                pass.report.recorded += 1;
            }
        }
        self.show_stored();
    }

    /// Takes a stored blob whose bytes were file_id to be wrong out of reach: file first, row second.
    pub(in crate::mirror) async fn take_out(&self, digest: Digest, file_id: FileId) -> TakenOut {
        let row = match self.index.blob_row(digest).await {
            Ok(row) => row,
            Err(err) => return self.take_out_later(digest, &err),
        };
        let is_lost = self.is_last_copy(row.as_ref());
        let taken_out = if is_lost { TakenOut::Lost } else { TakenOut::ComesAgain };
        let now = self.clock.now();
        let size_bytes = row.as_ref().map_or(file_id.size_bytes(), |row| row.size_bytes);
        let taken = self.store.quarantine(digest, file_id, now).await;
        if matches!(taken, Ok(QuarantineOutcome::Another)) {
            return TakenOut::Another;
        }
        self.metrics.damaged_blobs.inc();
        self.forget_in_memory(digest);
        let became = match taken {
            Ok(QuarantineOutcome::Removed) => "they could not be moved to quarantine, and are removed",
            Ok(QuarantineOutcome::Missing) => "somebody has removed them",
            Ok(QuarantineOutcome::Away | QuarantineOutcome::Another) => "they are in quarantine",
            Err(err) => {
                tracing::error!(%digest, %err, "stored bytes are wrong and cannot be moved away; they are not served");
                self.store.mark_known_bad(digest);
                self.health.degrade(Part::Verify, "stored bytes are wrong and cannot be moved away: see the log");
                return taken_out;
            }
        };
        self.forget_taken(digest, row, is_lost.then_some(size_bytes)).await;
        if is_lost {
            tracing::error!(%digest, "stored bytes were wrong; {became}; no upstream that is online can give them again: bring one back and pull them");
        } else {
            tracing::warn!(%digest, "stored bytes were wrong; {became}, and fetched again when asked for");
        }
        let why = "stored bytes were wrong: look after the disk, then run a verify that finds nothing";
        self.health.degrade(Part::Verify, why);
        taken_out
    }

    /// Should another file have its name by now, reading that again will tell.
    fn take_out_later(&self, digest: Digest, err: &IndexError) -> TakenOut {
        tracing::error!(%digest, %err,
            "stored bytes are wrong; they are not served, and are moved away when the index can be read again");
        self.forget_in_memory(digest);
        self.store.mark_known_bad(digest);
        self.health.degrade(Part::Verify, "stored bytes are wrong and were not moved away yet: see the log");
        self.retry_soon();
        TakenOut::Withheld
    }

    /// Its file is in quarantine: the row goes, unless it was stored again since. If it is lost, so many bytes are.
    pub(in crate::mirror) async fn forget_taken(&self, digest: Digest, row: Option<BlobRow>, lost_bytes: Option<u64>) {
        let mut changes: Vec<Change> = row.map(|row| Change::RemoveMissing { digest, row }).into_iter().collect();
        if let Some(size_bytes) = lost_bytes {
            changes
                .push(Change::PutUnrecoverable { digest, row: Unrecoverable { size_bytes, found: self.clock.now() } });
        }
        // The writer has logged a failure; a row without a file is a miss.
        let _lost = self.index.apply_durably(changes).await;
        self.pending.doubt();
        self.show_stored();
    }

    /// Whether no upstream can give it again, as far as is known.
    pub(in crate::mirror) fn is_last_copy(&self, row: Option<&BlobRow>) -> bool {
        let origin = row.and_then(|row| row.origin.as_ref());
        let registry = origin.and_then(|authority| self.registry(authority));
        registry.is_none_or(|registry| registry.policy.offline)
    }

    pub(in crate::mirror) fn tell_verified(&self, report: &VerifyReport) {
        if report.wrong.is_empty() && report.unreadable.is_empty() && report.unlisted == 0 {
            self.health.heal(Part::Verify);
        }
    }

    /// Those found wrong that nobody can give again.
    pub async fn lost(&self) -> Result<Vec<Lost>, IndexError> {
        let lost = self.index.unrecoverable().await?.into_iter();
        Ok(lost.map(|(digest, Unrecoverable { size_bytes, found })| Lost { digest, size_bytes, found }).collect())
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
