//! What is held: bytes and their record, kept in step.
//!
//! The invariant is *file first, record second*, and it is kept here and nowhere else. A blob's record is written after
//! its file is synced under its digest ([`Cache::admit`]). Its file is removed before its record
//! ([`retention`], [`scrub`]). A record without a file is a miss; a file without a record is found by a start, or by a
//! scrub.
//!
//! The cache knows no upstream and no policy. What it needs to know of a registry it is given as [`RegistryFacts`].

mod admit;
pub mod blocks;
mod faults;
mod memory;
mod pending_records;
mod recover;
pub mod retention;
pub mod scrub;
mod usage;

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use faults::{describe_fault, retry_faults};
pub use memory::{Manifest, Memory, MemoryBlob, SMALL_BYTES};
pub use recover::{RecoverError, begin_service, close, leave, recover};
pub use usage::Quota;

use crate::clock::{Clock, Timestamp};
use crate::health::Health;
use crate::index::{BlobRow, Index, Scope};
use crate::metrics::Metrics;
use crate::oci::{Authority, Digest};
use crate::recent::Recent;
use crate::store::{self, BlobFile, Store, StoredBlob};

use blocks::Blocks;
use pending_records::PendingRecords;
use retention::{AccessTimes, Leases, Pins};

/// Stored blobs that a receiver may be behind.
const MAX_STORED_UNSEEN: usize = 256;

/// All that is held, shared by pulls, fills and background tasks.
pub struct Cache {
    pub store: Store,
    pub index: Index,
    /// Answers hits without index and disk.
    pub memory: Memory,
    pub access_times: AccessTimes,
    pub leases: Leases,
    pub pins: Pins,
    pub blocks: Arc<Blocks>,
    /// Wakes the task that tries a failed disk again.
    has_faults: Notify,
    pending: PendingRecords,
    stored: broadcast::Sender<Digest>,
    /// One eviction batch at a time, whoever needs it.
    evicting: Arc<Semaphore>,
    rechecks: scrub::Rechecks,
    registries: Arc<dyn Registries>,
    pub context: Context,
}

/// What every part of the cache works with.
#[derive(Clone)]
pub struct Context {
    pub clock: Clock,
    pub metrics: Metrics,
    pub health: Health,
    /// The slowest answers and the last failures.
    pub recent: Recent,
    /// Everything that outlives the request which started it.
    pub tasks: TaskTracker,
    /// Cancelled when work must end now.
    pub stopping: CancellationToken,
}

/// What the cache has to know of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryFacts {
    /// The upstream as it is configured: the label of its metrics.
    pub name: String,
    /// Most bytes that its content and its running downloads may take together.
    pub max_size: Option<u64>,
    /// It is never asked: what came from it may be the last copy.
    pub is_offline: bool,
    /// One grant opens a digest to the whole registry.
    pub is_public: bool,
}

/// Where the cache looks registries up.
pub trait Registries: Send + Sync + 'static {
    /// `None` for a registry that is neither configured nor admitted by a wildcard.
    fn facts(&self, authority: &Authority) -> Option<RegistryFacts>;

    /// Those that are configured by name.
    fn configured(&self) -> Vec<(Authority, RegistryFacts)>;
}

impl Cache {
    pub fn new(store: Store, index: Index, pins: Pins, registries: Arc<dyn Registries>, context: Context) -> Self {
        Self {
            store,
            index,
            memory: Memory::default(),
            access_times: AccessTimes::new(context.clock.clone()),
            leases: Leases::default(),
            pins,
            blocks: Arc::default(),
            has_faults: Notify::new(),
            pending: PendingRecords::default(),
            stored: broadcast::Sender::new(MAX_STORED_UNSEEN),
            evicting: Arc::new(Semaphore::new(1)),
            rechecks: scrub::Rechecks::new(context.tasks.clone()),
            registries,
            context,
        }
    }

    /// The blobs and manifests that are stored from now on. A receiver that is too slow misses some.
    pub fn subscribe_stored(&self) -> broadcast::Receiver<Digest> {
        self.stored.subscribe()
    }

    /// The time of this moment, as access times count it.
    pub fn access_time(&self) -> Timestamp {
        self.access_times.monotonic(self.context.clock.now())
    }

    /// Whether a blob is recorded and its file can be opened.
    pub async fn is_stored(&self, scope: &Scope, digest: Digest) -> bool {
        match self.index.blob(scope, digest, false).await {
            Ok((Some(row), _)) => matches!(self.open(digest, &row).await, Ok(Some(_))),
            Ok((None, _)) | Err(_) => false,
        }
    }

    /// Opens the file of a recorded blob. A record without a file is a miss, and is removed; a last copy is then listed as
    /// lost. A file of another size than was proven is taken out, and is a miss as well.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be opened.
    pub async fn open(&self, digest: Digest, row: &BlobRow) -> std::io::Result<Option<BlobFile>> {
        match self.store.open_blob(digest).await? {
            Some(StoredBlob::File(file, size_bytes)) if size_bytes == row.size_bytes => Ok(Some(file)),
            Some(StoredBlob::File(file, _wrong_size)) => {
                if let Ok(file_id) = file.file_id() {
                    scrub::take_out(self, digest, file_id).await;
                }
                Ok(None)
            }
            Some(StoredBlob::NotAFile(file_id)) => {
                scrub::take_out(self, digest, file_id).await;
                Ok(None)
            }
            None => {
                scrub::take_missing(self, digest, row.clone()).await;
                Ok(None)
            }
        }
    }

    /// A file was found missing: removes its record, unless the file is there by now. A record that is written since stays.
    pub async fn remove_missing(&self, digest: Digest) {
        let Ok(Some(row)) = self.index.blob_row(digest).await else { return };
        if matches!(store::quarantine::look_at(&self.store, digest).await, Ok(None)) {
            scrub::take_missing(self, digest, row).await;
        }
    }

    /// Drops a digest from memory, after its bytes were removed, moved away or found damaged. Its file is closed, so that
    /// the disk has its space back.
    pub fn forget(&self, digest: Digest) {
        // In this order: what is kept between the two is outdated, or removed.
        self.index.bump(digest);
        self.memory.forget(digest);
    }

    /// Whether content of this registry can be fetched again. Imported content and content of an index that was lost
    /// have no known origin, and a registry that is offline or not configured any more is not asked: what they gave may
    /// be the last copy.
    pub fn can_come_again(&self, authority: &str) -> bool {
        let facts = authority.parse().ok().and_then(|authority| self.registries.facts(&authority));
        facts.is_some_and(|facts| !facts.is_offline)
    }

    /// Whether there is a registry that content may come from again.
    pub fn can_any_come_again(&self) -> bool {
        self.registries.configured().iter().any(|(_, facts)| !facts.is_offline)
    }

    /// Whether no registry that is online can give this blob again, as far as is known.
    pub fn is_last_copy(&self, row: Option<&BlobRow>) -> bool {
        let origin = row.and_then(|row| row.origin.as_ref());
        let facts = origin.and_then(|authority| self.registries.facts(authority));
        facts.is_none_or(|facts| facts.is_offline)
    }

    /// The label of a registry's metrics.
    fn label(&self, authority: &str) -> String {
        let facts = authority.parse().ok().and_then(|authority| self.registries.facts(&authority));
        facts.map_or_else(|| "unknown".to_owned(), |facts| facts.name)
    }
}
