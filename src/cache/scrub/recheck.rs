//! Stored bytes that a registry contradicts are read again before anybody is blamed: once a minute, for all who ask.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::clock::Timestamp;
use crate::coalesce::{Coalesce, queued};
use crate::oci::Digest;
use crate::store::{Checked, FileStamp};

/// How long bytes that were found right count as right.
const RIGHT_FOR: Duration = Duration::from_mins(1);
/// Files found right that are remembered.
const MAX_REMEMBERED: u64 = 10_000;
/// Files read at one time.
const AT_ONCE: usize = 2;
/// Longest wait for the reading of others. Until then, what was proven once counts as right.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found right a moment ago, and what is being read.
pub(in crate::cache) struct Rechecks {
    running: Coalesce<Digest, Result<Checked, Arc<io::Error>>>,
    right: moka::sync::Cache<Digest, (FileStamp, Timestamp)>,
    turns: Arc<Semaphore>,
}

impl Rechecks {
    pub(in crate::cache) fn new(tasks: TaskTracker) -> Self {
        Self {
            running: Coalesce::new(tasks),
            right: moka::sync::Cache::new(MAX_REMEMBERED),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// Whether the stored bytes still have their digest. Reads all of them, unless this file was found right within the
/// last minute, or too many others are being read.
///
/// # Errors
///
/// The disk does not give them.
pub async fn recheck(cache: &Arc<Cache>, digest: Digest) -> Result<Checked, Arc<io::Error>> {
    let Some(stamp) = cache.store.stamp(digest).await? else { return Ok(Checked::Missing) };
    let now = cache.context.clock.now();
    let is_fresh = |(was, until): &(FileStamp, Timestamp)| *was == stamp && now < *until;
    if cache.rechecks.right.get(&digest).as_ref().is_some_and(is_fresh) {
        return Ok(Checked::Right(stamp.size_bytes()));
    }
    let read = || {
        let cache = Arc::clone(cache);
        async move {
            let turn = tokio::time::timeout(PATIENCE, Arc::clone(&cache.rechecks.turns).acquire_owned());
            let Ok(Ok(_turn)) = queued(turn).await else { return Ok(Checked::Right(stamp.size_bytes())) };
            let checked = cache.store.check(digest).await?;
            if let Checked::Right(_) = checked {
                // From before the reading: a file that was changed meanwhile is read again.
                let until = cache.context.clock.now().plus(RIGHT_FOR);
                cache.rechecks.right.insert(digest, (stamp, until));
            }
            Ok(checked)
        }
    };
    match cache.rechecks.running.run(digest, read).await {
        Ok((checked, _)) => checked,
        Err(died) => Err(Arc::new(io::Error::other(died))),
    }
}
