//! Places of blobs that are passed through. A client that does not read loses its place to one that waits.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::upstream::body;
use crate::upstream::error::Failure;

/// A place whose client has read nothing for so long may be taken.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// How often those who wait look for one.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An answer of upstream, and the place that it takes.
pub(in crate::upstream) struct Connection {
    pub(in crate::upstream) response: reqwest::Response,
    pub(in crate::upstream) _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// The next chunk; `None` at the end.
    pub(in crate::upstream) async fn chunk(&mut self, idle: Duration) -> Result<Option<Bytes>, Failure> {
        body::next_chunk(&mut self.response, idle, "its body stopped coming").await
    }
}

/// One client's connection, until another takes the place.
pub(in crate::upstream) struct Place {
    connection: tokio::sync::Mutex<Option<Connection>>,
    read_at: Mutex<Instant>,
}

impl Place {
    pub(in crate::upstream) async fn chunk(&self, idle: Duration) -> Result<Option<Bytes>, Failure> {
        let mut connection = self.connection.lock().await;
        let taken = Failure::Crowded("a client that did not read gave its place to another");
        let chunk = connection.as_mut().ok_or(taken)?.chunk(idle).await;
        *self.read_at() = Instant::now();
        chunk
    }

    fn read_at(&self) -> MutexGuard<'_, Instant> {
        self.read_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All places of a registry whose clients may be slow.
#[derive(Clone, Default)]
pub(in crate::upstream) struct Places(Arc<Mutex<Vec<Weak<Place>>>>);

impl Places {
    fn places(&self) -> MutexGuard<'_, Vec<Weak<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::upstream) fn lend(&self, connection: Connection) -> Arc<Place> {
        let read_at = Mutex::new(Instant::now());
        let place = Arc::new(Place { connection: tokio::sync::Mutex::new(Some(connection)), read_at });
        let mut places = self.places();
        places.retain(|place| place.strong_count() > 0);
        places.push(Arc::downgrade(&place));
        place
    }

    /// As long as no place is free, takes the one whose client has not read for longest. Never ends.
    pub(in crate::upstream) async fn take_stalled(&self, free: &Semaphore, idle: Duration) -> Infallible {
        let patience = STALLED_AFTER.min(idle);
        loop {
            if free.available_permits() == 0 {
                let places: Vec<_> = self.places().iter().filter_map(Weak::upgrade).collect();
                let stalled = places.iter().filter(|place| place.read_at().elapsed() >= patience);
                // Whoever waits for upstream's bytes holds the lock, and reads.
                let mut stalled: Vec<_> =
                    stalled.filter_map(|place| Some((*place.read_at(), place.connection.try_lock().ok()?))).collect();
                if let Some((_, connection)) = stalled.iter_mut().min_by_key(|(read_at, _)| *read_at) {
                    drop(connection.take());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
