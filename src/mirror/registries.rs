//! Putting a mirror together, and what a crash left in order.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::coalesce::Coalesce;
use crate::index::{BlobRow, Change, Index};
use crate::metrics::ByAuthority;
use crate::oci::{Authority, Digest};
use crate::store::{Leftover, Store};
use crate::upstream::{ClientError, Surroundings, Upstream, UpstreamClients, UpstreamSettings};

use crate::mirror::negative_cache::negative_cache;
use crate::mirror::{Eviction, EvictionSettings, FillLimits, Mirror, Namespaces, Policy, Registry};

/// Authorities that a wildcard admitted, kept at one time.
const MAX_ADMITTED: u64 = 1000;

/// One configured upstream, checked.
pub struct RegistrySettings {
    /// `docker.io`, or a wildcard's key.
    pub key: RegistryKey,
    pub upstream: Arc<UpstreamSettings>,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryKey {
    Authority(Authority),
    /// By [`super::Wildcard::name`].
    Wildcard(String),
}

pub(in crate::mirror) struct Registries {
    configured: HashMap<Authority, Arc<Registry>>,
    templates: HashMap<String, Template>,
    admitted: moka::sync::Cache<Authority, Arc<Registry>>,
    around: Surroundings,
}

struct Template {
    settings: Arc<UpstreamSettings>,
    clients: UpstreamClients,
    policy: Policy,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("the upstream {name} cannot be set up: {err}")]
    Client { name: String, err: ClientError },
    #[error("the upstream {name} cannot be set up: {err}")]
    Url { name: String, err: url::ParseError },
    #[error("what an earlier run left in the storage cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
}

/// What the configuration says of the mirror, already checked.
pub struct MirrorSettings {
    pub namespaces: Namespaces,
    pub registries: Vec<RegistrySettings>,
    pub eviction: EvictionSettings,
    pub fills: FillLimits,
}

impl Mirror {
    /// Connects to nothing: every upstream may be down.
    pub fn new(
        settings: MirrorSettings,
        store: Store,
        index: Index,
        around: Surroundings,
        stopping: CancellationToken,
    ) -> Result<Self, RecoveryError> {
        let MirrorSettings { namespaces, registries, eviction, fills } = settings;
        let (tasks, now) = (around.tasks.clone(), around.clock.now());
        Ok(Self {
            namespaces,
            clock: around.clock.clone(),
            metrics: around.metrics.clone(),
            health: around.health.clone(),
            registries: Registries::new(registries, around)?,
            store,
            index,
            stopping,
            in_flight: super::InFlight::default(),
            queue: super::Queue::new(fills),
            checks: Coalesce::new(tasks.clone()),
            manifests: Coalesce::new(tasks.clone()),
            proofs: Coalesce::new(tasks.clone()),
            lists: Coalesce::new(tasks.clone()),
            tasks,
            memory: super::cache::memory::Memory::default(),
            negative_cache: negative_cache(),
            uncacheable: moka::sync::Cache::new(10_000),
            faults_reported: tokio::sync::Notify::new(),
            faults_cleared: tokio::sync::Notify::new(),
            access_times: super::AccessTimes::default(),
            eviction: Eviction::new(eviction, now),
            pending: super::PendingRecords::default(),
        })
    }

    /// Reads what a crash left between any two steps of a commit. Its time grows with the number of partial files.
    pub async fn recover(self: &Arc<Self>) -> Result<(), RecoveryError> {
        self.end_evictions().await?;
        self.detect_clock_set_back().await;
        let mirror = Arc::clone(self);
        let leftovers =
            tokio::task::spawn_blocking(move || mirror.store.recover()).await.map_err(io::Error::other)??;
        let (mut changes, mut names): (Vec<Change>, Vec<PathBuf>) = (Vec::new(), Vec::new());
        let mut resumable = 0_u32;
        for leftover in leftovers {
            match leftover {
                Leftover::Resumable => resumable += 1,
                Leftover::Committed { digest, size_bytes, partial } => {
                    let origin = partial.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
                    let origin = origin.and_then(|name| name.parse().ok());
                    let row = BlobRow { size_bytes, origin, stored: self.monotonic(self.clock.now()) };
                    changes.push(Change::PutBlob { digest, row });
                    names.push(partial);
                }
            }
        }
        if resumable > 0 {
            tracing::info!(downloads = resumable, "interrupted downloads will go on from where they were");
        }
        if !changes.is_empty() {
            tracing::info!(blobs = names.len(), "blobs that were stored but not recorded are recorded now");
            self.index.apply_durably(changes).await?;
            let forget = move || names.iter().try_for_each(|name| Store::forget_partial(name));
            tokio::task::spawn_blocking(forget).await.map_err(io::Error::other)??;
        }
        self.forget_quarantined().await?;
        self.store.set_stored(self.index.stored_bytes().await?);
        self.show_stored();
        Ok(())
    }

    /// A crash may have come between a wrong file's move and the end of its row, which then counts what is not there.
    async fn forget_quarantined(self: &Arc<Self>) -> Result<(), RecoveryError> {
        let mirror = Arc::clone(self);
        let look = move || {
            let quarantined = mirror.store.quarantined().unwrap_or_else(|err| {
                tracing::warn!(%err, "what is in quarantine cannot be listed");
                Vec::new()
            });
            quarantined.into_iter().map(|(digest, _)| digest).filter(|digest| !mirror.store.is_there(*digest)).collect()
        };
        let away: Vec<Digest> = tokio::task::spawn_blocking(look).await.map_err(io::Error::other)?;
        for digest in away {
            if let Some(row) = self.index.blob_row(digest).await? {
                let is_lost = self.is_last_copy(Some(&row));
                let size_bytes = row.size_bytes;
                self.forget_taken(digest, Some(row), is_lost.then_some(size_bytes)).await;
            }
        }
        Ok(())
    }

    /// Of blobs that were being evicted, those whose files are gone are forgotten; the others stay.
    async fn end_evictions(self: &Arc<Self>) -> Result<(), RecoveryError> {
        let marked = self.index.evicting().await?;
        if marked.is_empty() {
            return Ok(());
        }
        let mirror = Arc::clone(self);
        let look = move || marked.into_iter().partition(|digest| mirror.store.is_there(*digest));
        let (there, gone) = tokio::task::spawn_blocking(look).await.map_err(io::Error::other)?;
        let ends = [(there, false), (gone, true)].map(|(digests, gone)| Change::EndEviction { digests, gone });
        Ok(self.index.apply_durably(ends.to_vec()).await?)
    }

    /// Sweeps unused grants some time after the start and once a day, for ever.
    pub async fn expire_grants(self: Arc<Self>) {
        let mut pause = Duration::from_mins(10);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => self.sweep().await,
                () = self.stopping.cancelled() => return,
            }
            pause = Duration::from_hours(24);
        }
    }

    /// Whether the last server of this storage ended in good order. From here on, this one has not.
    pub async fn begin_service(self: &Arc<Self>) -> bool {
        // A counter that appears with its first event hides that one from whoever watches for a rise.
        for (_, registry) in self.configured_registries() {
            let labels = ByAuthority::of(registry.name());
            for watched in
                [&self.metrics.uncached_streams, &self.metrics.reservations_refused, &self.metrics.digest_mismatches]
            {
                drop(watched.get_or_create(&labels));
            }
        }
        let mirror = Arc::clone(self);
        let was_clean = tokio::task::spawn_blocking(move || mirror.store.take_clean_stop()).await;
        // An unreadable sign is none.
        was_clean.is_ok_and(|was_clean| was_clean.unwrap_or(false))
    }

    /// Writes the index down, and leaves open how the last server has ended. For who has not served.
    pub async fn leave(&self) {
        self.write_accesses().await;
        self.index.close().await;
    }

    /// Writes the index down. Call it after all tasks have ended.
    pub async fn close(self: &Arc<Self>) {
        self.leave().await;
        let mirror = Arc::clone(self);
        let said = tokio::task::spawn_blocking(move || mirror.store.record_clean_stop()).await;
        if let Ok(Err(err)) = said {
            tracing::debug!(%err, "the next start takes this stop for an unclean one");
        }
    }

    pub(in crate::mirror) fn configured_registries(&self) -> impl Iterator<Item = (Authority, Arc<Registry>)> {
        self.registries.configured.iter().map(|(authority, registry)| (authority.clone(), Arc::clone(registry)))
    }

    pub(in crate::mirror) fn registry(&self, authority: &Authority) -> Option<Arc<Registry>> {
        if let Some(registry) = self.registries.configured.get(authority) {
            return Some(Arc::clone(registry));
        }
        let wildcard = self.namespaces.admitted_by(authority)?;
        let template = self.registries.templates.get(&wildcard.name())?;
        self.registries.admitted.optionally_get_with(authority.clone(), || {
            let settings = Arc::clone(&template.settings);
            let client = Upstream::new(authority.clone(), settings, &template.clients, &self.registries.around).ok()?;
            Some(Arc::new(Registry { client, policy: template.policy.clone() }))
        })
    }
}

impl Registries {
    fn new(settings: Vec<RegistrySettings>, around: Surroundings) -> Result<Self, RecoveryError> {
        let mut registries = Self {
            configured: HashMap::new(),
            templates: HashMap::new(),
            admitted: moka::sync::Cache::new(MAX_ADMITTED),
            around,
        };
        for RegistrySettings { key, upstream: settings, policy } in settings {
            let name = settings.name.clone();
            let clients =
                UpstreamClients::new(&settings).map_err(|err| RecoveryError::Client { name: name.clone(), err })?;
            match key {
                RegistryKey::Authority(authority) => {
                    let client = Upstream::new(authority.clone(), settings, &clients, &registries.around)
                        .map_err(|err| RecoveryError::Url { name, err })?;
                    registries.configured.insert(authority, Arc::new(Registry { client, policy }));
                }
                RegistryKey::Wildcard(wildcard) => {
                    registries.templates.insert(wildcard, Template { settings, clients, policy });
                }
            }
        }
        Ok(registries)
    }
}
