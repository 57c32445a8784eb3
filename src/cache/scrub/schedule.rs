//! When stored bytes are read again without being asked: everything now and then, and first what an unclean stop puts in
//! doubt.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pass::Pass;
use super::{VerifyProgress, VerifySettings};
use crate::cache::Cache;
use crate::clock::Timestamp;
use crate::store::{self};

/// After an unclean stop, what was stored so long before it is read first.
const LATELY: Duration = Duration::from_mins(10);

/// How far a background pass has come, kept in the storage.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ScrubCursor {
    begun: Timestamp,
    shard: usize,
}

/// Reads what was stored shortly before an unclean stop; then everything, every so often, until the mirror stops.
pub async fn run_scrub(cache: Arc<Cache>, settings: VerifySettings, was_clean: bool) {
    let stopping = &cache.context.stopping;
    if !was_clean {
        tokio::select! {
            () = verify_lately(&cache) => {}
            () = stopping.cancelled() => return,
        }
    }
    let Some(every) = settings.every else { return };
    let stored = store::scrub::read_cursor(&cache.store).await;
    let mut cursor = stored.and_then(|cursor| serde_json::from_slice::<ScrubCursor>(&cursor).ok());
    loop {
        let now = cache.context.clock.now();
        // A beginning that lies ahead is one from before the clock was set back.
        let done = cursor.filter(|cursor| cursor.shard >= store::scrub::SHARDS && cursor.begun <= now);
        let due = done.map_or(Duration::ZERO, |cursor| every.saturating_sub(now.since(cursor.begun)));
        tokio::select! {
            // Looked at now and then, because clocks are set.
            () = tokio::time::sleep(due.min(Duration::from_hours(1))) => {}
            () = stopping.cancelled() => return,
        }
        if due > Duration::from_hours(1) {
            continue;
        }
        let resumed = cursor.filter(|cursor| cursor.shard < store::scrub::SHARDS);
        let Some(done) = run_pass(&cache, settings.rate, resumed).await else { return };
        cursor = Some(done);
    }
}

/// One pass in the background, from where the last one was; `None` at shutdown.
async fn run_pass(cache: &Cache, rate: Option<u64>, resumed: Option<ScrubCursor>) -> Option<ScrubCursor> {
    let mut cursor = resumed.unwrap_or(ScrubCursor { begun: cache.context.clock.now(), shard: 0 });
    let progress = VerifyProgress::default();
    let mut pass = Pass::new(cache, rate, &progress);
    while cursor.shard < store::scrub::SHARDS {
        let went_on = tokio::select! {
            went_on = pass.shard(cursor.shard) => went_on,
            () = cache.context.stopping.cancelled() => false,
        };
        if !went_on {
            return None;
        }
        cursor.shard += 1;
        if let Ok(bytes) = serde_json::to_vec(&cursor)
            && let Err(err) = store::scrub::write_cursor(&cache.store, bytes).await
        {
            tracing::debug!(error = %err, "where verify is could not be noted: after a restart it begins anew");
        }
    }
    let report = &pass.report;
    let (blobs, bytes, wrong, missing) = (report.blobs, report.bytes, report.wrong.len(), report.missing.len());
    tracing::info!(blobs, bytes, wrong, missing, "verified what is stored");
    pass.heal_if_clean();
    Some(cursor)
}

async fn verify_lately(cache: &Cache) {
    let lately = match store::scrub::stored_lately(&cache.store, LATELY, cache.context.clock.now()).await {
        Ok(lately) => lately,
        Err(err) => {
            tracing::warn!(error = %err, "what was stored before the unclean stop cannot be found");
            return;
        }
    };
    let progress = VerifyProgress::default();
    let mut pass = Pass::new(cache, None, &progress);
    for file in lately {
        if cache.context.stopping.is_cancelled() {
            return;
        }
        let _is_there = pass.blob(file).await;
    }
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
