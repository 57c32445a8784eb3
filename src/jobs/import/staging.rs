//! Blobs of an archive on their way into the store: hashed, compared, synced, and granted to nobody yet.

use std::collections::HashMap;
use std::io::{self, Read, Seek as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::cache::retention::{Evictor, Lease};
use crate::cache::{Cache, RegistryFacts};
use crate::index::{BlobRow, Change, PutBlob};
use crate::jobs::bundle::docker_archive::Part;
use crate::jobs::bundle::receipt::Receipt;
use crate::jobs::job::RunningJob;
use crate::mirror::Mirror;
use crate::oci::{Algorithm, Authority, Digest, Hasher};
use crate::store::{CommitError, PartialFile, staged};

/// Bytes that are read and written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Blobs up to this size are stored beside one another: what costs time with them is the sync. Bytes.
const SMALL_BYTES: u64 = 1024 * 1024;
/// So many of them at one time: 32 MiB.
const MAX_SMALL: usize = 32;

/// What became of a blob of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was here already; the archive's copy was not looked at.
    Held,
    Stored,
    /// Its bytes have another digest.
    Wrong(Digest),
    NoSpace(u64),
    Failed(String),
}

/// Takes blobs, one after the other.
pub(super) struct Staging {
    cache: Arc<Cache>,
    evictor: Arc<Evictor>,
    job: Arc<RunningJob>,
    arrived: HashMap<Digest, Arrival>,
    storing: JoinSet<(Digest, Arrival)>,
    /// What was here stays until it is recorded.
    leases: Vec<Lease>,
}

impl Staging {
    pub(super) fn new(mirror: &Arc<Mirror>, job: &Arc<RunningJob>) -> Self {
        Self {
            cache: Arc::clone(mirror.cache()),
            evictor: Arc::clone(mirror.evictor()),
            job: Arc::clone(job),
            arrived: HashMap::new(),
            storing: JoinSet::new(),
            leases: Vec::new(),
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.job.is_cancelled()
    }

    pub(super) fn arrival(&self, digest: Digest) -> Option<&Arrival> {
        self.arrived.get(&digest)
    }

    /// Looks whether what a bundle will bring has room, before any of it is stored. The error says what is missing.
    pub(super) async fn expect(&mut self, receipt: &Receipt) -> Result<(), String> {
        let part = receipt.part.map_or(0, |(part, _)| part);
        let own = receipt.blobs.iter().filter(|(_, (_, of))| *of == part || *of == 0 || part == 0);
        let own: Vec<(Digest, u64)> = own.map(|(digest, (size, _))| (*digest, *size)).collect();
        let mut needed = 0_u64;
        for (digest, size_bytes) in &own {
            if self.cache.index.blob_row(*digest).await.ok().flatten().is_none() {
                needed = needed.saturating_add(*size_bytes);
            }
        }
        self.job.expect_bytes(own.iter().map(|(_, size)| size).sum());
        let (store, used) = (&self.cache.store, self.cache.used_bytes());
        if needed == 0 || store.lack(needed) == 0 {
            return Ok(());
        }
        // Eviction may make room, where there is something that can come again.
        if store.could_fit(needed) && self.cache.can_any_come_again() {
            return Ok(());
        }
        let limits = self.cache.limits();
        let most = limits.max_size.map_or(String::new(), |most| format!(" of at most {most}"));
        Err(format!("there is no room: it brings {needed} bytes that are not here, and {used}{most} are used"))
    }

    /// Takes a blob of the archive. `None` if it is stored beside others: [`Self::settle`] tells how that went.
    pub(super) fn take(
        &mut self,
        runtime: &Handle,
        digest: Digest,
        size_bytes: u64,
        from: &mut impl Read,
    ) -> io::Result<Option<Arrival>> {
        if matches!(self.arrived.get(&digest), Some(Arrival::Held | Arrival::Stored)) {
            return Ok(Some(Arrival::Held));
        }
        self.leases.push(self.cache.leases.lease(vec![digest]));
        let arrival = if runtime.block_on(self.is_held(digest, size_bytes)) {
            Arrival::Held
        } else if size_bytes <= SMALL_BYTES {
            let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or_default()];
            from.read_exact(&mut bytes)?;
            self.job.add_bytes(size_bytes);
            let got = Digest::of(digest.algorithm(), &bytes);
            if got == digest {
                runtime.block_on(self.store_small(digest, bytes.into()));
                return Ok(None);
            }
            Arrival::Wrong(got)
        } else {
            self.take_large(runtime, digest, size_bytes, from)?
        };
        self.arrived.insert(digest, arrival.clone());
        Ok(Some(arrival))
    }

    /// Takes content whose digest nobody tells: it is written aside first, to learn it.
    pub(super) fn take_unnamed(
        &mut self,
        runtime: &Handle,
        size_bytes: u64,
        from: &mut impl Read,
    ) -> io::Result<Option<Part>> {
        if !self.cache.store.could_fit(size_bytes) {
            return Err(io::Error::other(format!("there is no room for a layer of {size_bytes} bytes")));
        }
        let mut aside = staged::unnamed_file(&self.cache.store)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut from = from.take(size_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut is_gzip = None;
        loop {
            let read = from.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            let bytes = chunk.get(..read).unwrap_or_default();
            is_gzip.get_or_insert_with(|| bytes.starts_with(&[0x1f, 0x8b]));
            hasher.update(bytes);
            aside.write_all(bytes)?;
        }
        let digest = hasher.finish();
        aside.rewind()?;
        self.take(runtime, digest, size_bytes, &mut aside)?;
        Ok(Some(Part { digest, size_bytes, is_gzip: is_gzip.unwrap_or_default() }))
    }

    /// Keeps bytes that are in memory and were hashed: manifests that were made here.
    pub(super) async fn put(&mut self, digest: Digest, bytes: Bytes) {
        let is_known = matches!(self.arrived.get(&digest), Some(Arrival::Held | Arrival::Stored));
        if !is_known && !self.is_held(digest, bytes.len() as u64).await {
            self.leases.push(self.cache.leases.lease(vec![digest]));
            self.store_small(digest, bytes).await;
            self.settle().await;
        } else {
            self.arrived.entry(digest).or_insert(Arrival::Held);
        }
    }

    /// Waits for what is being stored.
    pub(super) async fn settle(&mut self) {
        while let Some(stored) = self.storing.join_next().await {
            self.note(stored);
        }
    }

    async fn is_held(&self, digest: Digest, size_bytes: u64) -> bool {
        let Ok(Some(row)) = self.cache.index.blob_row(digest).await else { return false };
        row.size_bytes == size_bytes
            && !self.cache.store.is_unreadable(digest)
            && matches!(self.cache.open(digest, &row).await, Ok(Some(_)))
    }

    async fn store_small(&mut self, digest: Digest, bytes: Bytes) {
        while self.storing.len() >= MAX_SMALL {
            if let Some(stored) = self.storing.join_next().await {
                self.note(stored);
            }
        }
        let (cache, evictor) = (Arc::clone(&self.cache), Arc::clone(&self.evictor));
        self.storing.spawn(async move {
            let size_bytes = bytes.len() as u64;
            let stored = async {
                let partial = begin(&cache, &evictor, digest, size_bytes).await?;
                let partial = append(partial, bytes).await?;
                commit(&cache, digest, size_bytes, partial).await
            };
            (digest, stored.await.map_or_else(|err| arrival(&err), |()| Arrival::Stored))
        });
    }

    fn note(&mut self, stored: Result<(Digest, Arrival), tokio::task::JoinError>) {
        if let Ok((digest, arrival)) = stored {
            self.arrived.insert(digest, arrival);
        }
    }

    /// Writes and hashes one piece while the next is read.
    fn take_large(
        &mut self,
        runtime: &Handle,
        digest: Digest,
        size_bytes: u64,
        from: &mut impl Read,
    ) -> io::Result<Arrival> {
        let partial = match runtime.block_on(begin(&self.cache, &self.evictor, digest, size_bytes)) {
            Ok(partial) => partial,
            Err(err) => return Ok(arrival(&err)),
        };
        let mut writing = runtime.spawn(async move { Ok(partial) });
        let mut left = size_bytes;
        while left > 0 {
            let mut bytes = vec![0; usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
            let read = if self.job.is_cancelled() {
                Err(io::Error::other("the import was cancelled"))
            } else {
                from.read_exact(&mut bytes)
            };
            let partial = match runtime.block_on(writing).map_err(io::Error::other)? {
                Ok(partial) => partial,
                Err(err) => return Ok(arrival(&err)),
            };
            if let Err(err) = read {
                let _remembered = runtime.block_on(partial.discard());
                return Err(err);
            }
            left -= bytes.len() as u64;
            self.job.add_bytes(bytes.len() as u64);
            writing = runtime.spawn(append(partial, bytes.into()));
        }
        let cache = Arc::clone(&self.cache);
        let stored = runtime.block_on(async move {
            let partial = writing.await.map_err(io::Error::other)??;
            commit(&cache, digest, size_bytes, partial).await
        });
        Ok(stored.map_or_else(|err| arrival(&err), |()| Arrival::Stored))
    }
}

async fn append(mut partial: PartialFile, bytes: Bytes) -> Result<PartialFile, CommitError> {
    match partial.append(bytes).await {
        Ok(()) => Ok(partial),
        Err(err) => {
            let _remembered = partial.discard().await;
            Err(err.into())
        }
    }
}

async fn begin(
    cache: &Cache,
    evictor: &Arc<Evictor>,
    digest: Digest,
    size_bytes: u64,
) -> Result<PartialFile, CommitError> {
    let nowhere: Authority = staged::NOWHERE.parse().map_err(io::Error::other)?;
    let facts = RegistryFacts { name: "import".to_owned(), max_size: None, is_offline: true, is_public: false };
    // A crash leaves blobs that nothing names: this list tells the next import.
    staged::note(&cache.store, digest, cache.context.clock.now()).await?;
    let mut partial = cache.store.begin(&nowhere, digest).await?;
    match evictor.reserve(&mut partial, (&nowhere, &facts), size_bytes, true).await {
        Ok(()) => Ok(partial),
        Err(err) => {
            let _remembered = partial.discard().await;
            Err(err)
        }
    }
}

async fn commit(cache: &Arc<Cache>, digest: Digest, size_bytes: u64, partial: PartialFile) -> Result<(), CommitError> {
    if let Err(err) = partial.prove(Some(size_bytes)) {
        let _remembered = partial.discard().await;
        return Err(err);
    }
    let committed = partial.commit(Some(size_bytes)).await?;
    let row = BlobRow { size_bytes, origin: None, stored: cache.access_time() };
    cache.admit(digest, vec![Change::from(PutBlob { digest, row })], committed).await;
    Ok(())
}

fn arrival(err: &CommitError) -> Arrival {
    match err {
        CommitError::Mismatch { got } => Arrival::Wrong(*got),
        CommitError::NoSpace(bytes) => Arrival::NoSpace(*bytes),
        CommitError::WrongSize { .. } | CommitError::Io(_) => Arrival::Failed(err.to_string()),
    }
}
