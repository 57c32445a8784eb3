//! The shared state of one running download: what is there, and how it ended.
//!
//! Before the digest is proven, a client may receive all but the last [`WITHHELD_BYTES`]. This rule is kept here and
//! nowhere else. A blob that is no larger waits whole, so that a lie about it is a clean error.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::blocks::Blocked;
use crate::index::Scope;
use crate::oci::Digest;
use crate::store::BlobFile;
use crate::upstream::Deadline;

use super::download::{Intervals, NEAR};
use super::error::FillError;

/// The tail that is held back until the digest is proven.
pub const WITHHELD_BYTES: u64 = 64 * 1024;

/// For whom a fill begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A client has asked for the blob.
    Client,
    /// A client is about to ask: at full speed, but nothing is evicted for it.
    Ahead,
    /// Nobody has asked: over one connection, and nothing is evicted for it.
    Background,
}

/// One running download, followed by all its readers.
pub struct Fill {
    pub(super) digest: Digest,
    state: watch::Sender<State>,
    /// Where upstream has said yes to this digest: those who ask there join without asking again.
    scopes: Mutex<HashSet<Scope>>,
    /// Cancelled once a client asks for the blob. Until then nothing is evicted for it.
    asked: CancellationToken,
    /// Uses one connection until a client asks.
    is_slow: bool,
    positions: Arc<ReaderPositions>,
    begun: Instant,
    /// Cancelled when this goes.
    gone: CancellationToken,
    /// Cancelled when nobody may read the blob any more.
    blocked: CancellationToken,
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

/// Where readers wait for bytes that the sequential download will not bring soon, and how many do.
#[derive(Default)]
struct ReaderPositions {
    positions: Mutex<BTreeMap<u64, u32>>,
    more: Notify,
}

/// One reader's wait.
struct ReaderPosition {
    positions: Arc<ReaderPositions>,
    at: u64,
}

impl ReaderPosition {
    fn new(positions: &Arc<ReaderPositions>, at: u64) -> Self {
        *positions.positions.lock().unwrap_or_else(PoisonError::into_inner).entry(at).or_default() += 1;
        positions.more.notify_one();
        Self { positions: Arc::clone(positions), at }
    }
}

impl Drop for ReaderPosition {
    fn drop(&mut self) {
        let mut positions = self.positions.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(readers) = positions.get_mut(&self.at) {
            *readers -= 1;
            if *readers == 0 {
                positions.remove(&self.at);
            }
        }
    }
}

#[derive(Default)]
struct State {
    file: Option<BlobFile>,
    size_bytes: Option<u64>,
    there: Intervals,
    end: End,
}

#[derive(Default)]
enum End {
    #[default]
    Running,
    Proven,
    Failed(FillError),
}

/// A reader's hold on a fill. Costs a few words, whatever the blob's size.
pub struct FillWatcher {
    state: watch::Receiver<State>,
    positions: Arc<ReaderPositions>,
}

impl Fill {
    pub(super) fn new(digest: Digest, scope: Scope, priority: Priority) -> Self {
        let (state, _) = watch::channel(State::default());
        let fill = Self {
            digest,
            state,
            scopes: Mutex::new(HashSet::from([scope])),
            asked: CancellationToken::new(),
            is_slow: priority == Priority::Background,
            positions: Arc::default(),
            begun: Instant::now(),
            gone: CancellationToken::new(),
            blocked: CancellationToken::new(),
        };
        if priority == Priority::Client {
            fill.ask();
        }
        fill
    }

    /// The next attempt, from nothing.
    pub(super) fn again(&self, scope: Scope) -> Self {
        let priority = match (self.is_asked(), self.is_slow) {
            (true, _) => Priority::Client,
            (false, true) => Priority::Background,
            (false, false) => Priority::Ahead,
        };
        Self::new(self.digest, scope, priority)
    }

    /// A client asks for the blob.
    pub(super) fn ask(&self) {
        self.asked.cancel();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Resolves when the fill may use more than one connection.
    pub(super) async fn may_hurry(&self) {
        if self.is_slow {
            self.asked.cancelled().await;
        }
    }

    pub fn size_bytes(&self) -> Option<u64> {
        self.state.borrow().size_bytes
    }

    /// Whether a client waits for it or reads it.
    pub(super) fn is_attended(&self) -> bool {
        self.is_asked() && self.state.receiver_count() > 0
    }

    /// Resolves when it has ended. Who waits so does not count as one who follows it.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.gone.clone().cancelled_owned()
    }

    pub(super) const fn since(&self) -> Instant {
        self.begun
    }

    /// Whether nothing is read from upstream yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.borrow().file.is_none()
    }

    /// How many bytes have come.
    pub(super) fn there_bytes(&self) -> u64 {
        self.state.borrow().there.total()
    }

    pub fn is_granted(&self, scope: &Scope) -> bool {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).contains(scope)
    }

    pub fn grant(&self, scope: Scope) {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).insert(scope);
    }

    pub(super) fn revoke(&self, scope: &Scope) {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }

    pub(super) fn granted_scopes(&self) -> Vec<Scope> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The file that readers will read from.
    pub(super) fn opening(&self, file: BlobFile) {
        self.state.send_modify(|state| state.file = Some(file));
    }

    /// Upstream has answered: readers learn the size, where it is known.
    pub(super) fn begun(&self, size_bytes: Option<u64>) {
        self.state.send_modify(|state| state.size_bytes = size_bytes);
    }

    /// Bytes that were announced.
    pub(super) async fn read(&self, at: u64, length: usize) -> std::io::Result<Bytes> {
        let file = self.state.borrow().file.clone();
        let file = file.ok_or_else(|| std::io::Error::other("a download that has not begun is read"))?;
        file.read(at, length).await
    }

    /// More bytes are in the file. They will not change.
    pub(super) fn announce(&self, range: Range<u64>) {
        self.state.send_modify(|state| state.there.add(range));
    }

    /// The digest is right: the tail is released.
    pub(super) fn proven(&self, size_bytes: u64) {
        self.state.send_modify(|state| {
            state.size_bytes = Some(size_bytes);
            state.end = End::Proven;
        });
    }

    /// Cuts the readers. A fill that is proven stays so.
    pub(super) fn fail(&self, error: FillError) {
        self.state.send_modify(|state| {
            if matches!(state.end, End::Running) {
                state.end = End::Failed(error);
            }
        });
    }

    /// Cuts the readers, and has the download end.
    pub(super) fn block(&self, blocked: Arc<Blocked>) {
        self.fail(FillError::Blocked(blocked));
        self.blocked.cancel();
    }

    /// Resolves when nobody may read the blob any more.
    pub(super) async fn blocked(&self) {
        self.blocked.cancelled().await;
    }

    pub fn follow(&self) -> FillWatcher {
        FillWatcher { state: self.state.subscribe(), positions: Arc::clone(&self.positions) }
    }

    /// Where readers wait far from the blob's start, ascending.
    pub(super) fn positions(&self) -> Vec<u64> {
        self.positions.positions.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Resolves when a reader has begun to wait. For one caller at a time.
    pub(super) async fn more_positions(&self) {
        self.positions.more.notified().await;
    }
}

impl FillWatcher {
    /// Whether all bytes may be read.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state.borrow().end, End::Proven)
    }

    /// Why the fill failed, if it did.
    pub(super) fn failure(&self) -> Option<FillError> {
        match &self.state.borrow().end {
            End::Failed(error) => Some(error.clone()),
            End::Running | End::Proven => None,
        }
    }

    /// Waits until the fill has left the map, whose entry is the last to hold the sender.
    pub async fn ended(&mut self, deadline: Deadline) {
        while let Ok(Ok(())) = tokio::time::timeout_at(deadline, self.state.changed()).await {}
    }

    /// The size and the file, when an answer may begin; `None` if that is not before `deadline`. A blob of unknown size is
    /// answered once it is whole, however long that takes: there the deadline moves on as long as bytes come.
    pub async fn begun(
        &mut self,
        mut deadline: Deadline,
        patience: Duration,
    ) -> Result<Option<(u64, BlobFile)>, FillError> {
        let mut seen = 0;
        loop {
            let grown = {
                let state = self.state.borrow_and_update();
                match (&state.end, state.size_bytes, &state.file) {
                    (End::Failed(error), ..) => return Err(error.clone()),
                    (End::Proven, Some(size_bytes), Some(file)) => return Ok(Some((size_bytes, file.clone()))),
                    (End::Running, Some(size_bytes), Some(file)) if size_bytes > WITHHELD_BYTES => {
                        return Ok(Some((size_bytes, file.clone())));
                    }
                    (End::Running, None, _) => state.there.contiguous_from(0),
                    _ => 0,
                }
            };
            match tokio::time::timeout_at(deadline, self.changed()).await {
                Ok(changed) => changed?,
                Err(_elapsed) if grown > seen => {
                    seen = grown;
                    deadline = Deadline::now() + patience;
                }
                Err(_elapsed) => return Ok(None),
            }
        }
    }

    /// Waits until bytes at `at` may be read; the end of what may be read from there.
    pub(super) async fn readable_from(&mut self, at: u64) -> Result<u64, FillError> {
        let mut position = None;
        loop {
            let far = {
                let state = self.state.borrow_and_update();
                let end = match &state.end {
                    End::Failed(error) => return Err(error.clone()),
                    End::Proven => state.size_bytes.unwrap_or(at),
                    End::Running => {
                        let held_back = state.size_bytes.unwrap_or(0).saturating_sub(WITHHELD_BYTES);
                        state.there.contiguous_from(at).min(held_back)
                    }
                };
                if end > at {
                    return Ok(end);
                }
                at >= state.there.contiguous_from(0).saturating_add(NEAR) && state.there.contiguous_from(at) == at
            };
            if far && position.is_none() {
                position = Some(ReaderPosition::new(&self.positions, at));
            }
            self.changed().await?;
        }
    }

    async fn changed(&mut self) -> Result<(), FillError> {
        let gone = |_sender_dropped| FillError::Internal("the download ended without a result".to_owned());
        self.state.changed().await.map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn fill() -> Fill {
        let scope = Scope { domain: 0, authority: "a.test".parse().unwrap(), repository: "x".parse().unwrap() };
        Fill::new(Digest::of(Algorithm::Sha256, b""), scope, Priority::Client)
    }

    #[tokio::test]
    async fn the_tail_waits_for_the_proof_whatever_is_there() {
        let fill = fill();
        let size = WITHHELD_BYTES + 100;
        let mut watcher = fill.follow();
        fill.state.send_modify(|state| state.size_bytes = Some(size));
        fill.announce(0..size);
        assert_eq!(watcher.readable_from(0).await.unwrap(), 100);
        let (tail, ()) = tokio::join!(watcher.readable_from(100), async { fill.proven(size) });
        assert_eq!(tail.unwrap(), size);
    }

    #[tokio::test]
    async fn a_failed_fill_cuts_its_readers_and_a_proven_one_cannot_fail() {
        let failed = fill();
        failed.fail(FillError::Again);
        assert!(failed.follow().readable_from(0).await.is_err());
        let proven = fill();
        proven.proven(10);
        proven.fail(FillError::Again);
        assert_eq!(proven.follow().readable_from(0).await.unwrap(), 10);
    }
}
