//! Places of blobs that are passed through. A client that does not read loses its place to one that waits.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::body;
use crate::upstream::error::Failure;

/// A place whose client has taken nothing for so long may be taken.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// How often those who wait look for one.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one who has found one waits for it.
const GOES_WITHIN: Duration = Duration::from_secs(1);

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

/// The chunks of a connection that another client may take the place of. A task reads them, so that a client that takes
/// nothing is told from an upstream that sends nothing, whoever looks after the client.
pub(in crate::upstream) struct Lent {
    chunks: mpsc::Receiver<Result<Option<Bytes>, Failure>>,
    place: Arc<Place>,
}

impl Lent {
    pub(in crate::upstream) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.chunks.recv().await {
            Some(chunk) => chunk,
            None if self.place.taken.is_cancelled() => {
                Err(Failure::Crowded("a client that did not read gave its place to another"))
            }
            None => Ok(None),
        }
    }
}

/// A place before it is used. It may be taken as well: a client may never ask for the first byte.
pub struct PassingPlace(Arc<Place>);

impl PassingPlace {
    /// `None` if another has it by now.
    pub(super) fn use_it(self) -> Option<OwnedSemaphorePermit> {
        self.0.unused().take()
    }
}

struct Place {
    taken: CancellationToken,
    /// Since when a chunk, or the place itself, waits for the client.
    waits_since: Mutex<Option<Instant>>,
    unused: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    fn new(waits_since: Option<Instant>, unused: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        let (waits_since, unused) = (Mutex::new(waits_since), Mutex::new(unused));
        Arc::new(Self { taken: CancellationToken::new(), waits_since, unused })
    }

    fn unused(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waits_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one chunk ahead of the client, until the end, or until the client leaves or loses its place.
    async fn read(
        &self,
        mut connection: Connection,
        client: mpsc::Sender<Result<Option<Bytes>, Failure>>,
        idle: Duration,
    ) {
        let give = async {
            // The next chunk is read when the one before is taken.
            while let Ok(free) = client.reserve().await {
                *self.waits_since() = None;
                let chunk = connection.chunk(idle).await;
                let is_last = !matches!(chunk, Ok(Some(_)));
                *self.waits_since() = (!is_last).then(Instant::now);
                free.send(chunk);
                if is_last {
                    return;
                }
            }
        };
        tokio::select! {
            () = give => {}
            () = client.closed() => {}
            () = self.taken.cancelled() => {}
        }
    }
}

/// All places of a registry whose clients may be slow.
#[derive(Clone, Default)]
pub(in crate::upstream) struct Places(Arc<Mutex<Vec<Weak<Place>>>>);

impl Places {
    fn places(&self) -> MutexGuard<'_, Vec<Weak<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::upstream) fn lend(&self, connection: Connection, idle: Duration) -> Lent {
        let place = Place::new(None, None);
        let (client, chunks) = mpsc::channel(1);
        let reading = Arc::clone(&place);
        tokio::spawn(async move { reading.read(connection, client, idle).await });
        self.add(&place);
        Lent { chunks, place }
    }

    pub(in crate::upstream) fn keep(&self, slot: OwnedSemaphorePermit) -> PassingPlace {
        let place = Place::new(Some(Instant::now()), Some(slot));
        self.add(&place);
        PassingPlace(place)
    }

    fn add(&self, place: &Arc<Place>) {
        let mut places = self.places();
        places.retain(|place| place.strong_count() > 0);
        places.push(Arc::downgrade(place));
    }

    /// As long as no place is free, takes the one whose client has taken nothing for longest. Never ends.
    pub(in crate::upstream) async fn take_stalled(&self, free: &Semaphore, idle: Duration) -> Infallible {
        let patience = STALLED_AFTER.min(idle);
        loop {
            let has_found = free.available_permits() == 0 && self.take_one(patience);
            tokio::time::sleep(if has_found { GOES_WITHIN } else { LOOK_EVERY }).await;
        }
    }

    fn take_one(&self, patience: Duration) -> bool {
        let places: Vec<_> = self.places().iter().filter_map(Weak::upgrade).collect();
        let stalled = places.iter().filter(|place| !place.taken.is_cancelled());
        let stalled = stalled.filter_map(|place| Some(((*place.waits_since())?, place)));
        let longest = stalled.filter(|(since, _)| since.elapsed() >= patience).min_by_key(|(since, _)| *since);
        if let Some((_, place)) = longest {
            place.taken.cancel();
            drop(place.unused().take());
        }
        longest.is_some()
    }
}
