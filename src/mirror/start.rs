//! Putting a mirror together, and what a crash left in order.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::coalesce::Coalesce;
use crate::index::{BlobRow, Change, Index, Opened};
use crate::oci::Authority;
use crate::store::{Found, Leftover, Store};
use crate::upstream::{ClientError, Surroundings, Upstream, UpstreamClients, UpstreamSettings};

use super::negative::negatives;
use super::{Member, Mirror, Namespaces, Policy};

/// Manifests kept in memory. Bytes.
const HOT_BYTES: u64 = 64 * 1024 * 1024;
/// Authorities that a wildcard admitted, kept at one time.
const MAX_ADMITTED: u64 = 1000;

/// One configured upstream, checked.
pub struct MemberSettings {
    /// `docker.io`, or a wildcard's key.
    pub key: MemberKey,
    pub upstream: Arc<UpstreamSettings>,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKey {
    Authority(Authority),
    /// By [`super::Wildcard::name`].
    Wildcard(String),
}

pub(super) struct Members {
    configured: HashMap<Authority, Arc<Member>>,
    templates: HashMap<String, Template>,
    admitted: moka::sync::Cache<Authority, Arc<Member>>,
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

impl Mirror {
    /// Connects to nothing: every upstream may be down.
    pub fn new(
        namespaces: Namespaces,
        members: Vec<MemberSettings>,
        store: Store,
        index: Index,
        around: Surroundings,
        stopping: CancellationToken,
    ) -> Result<Self, RecoveryError> {
        let tasks = around.tasks.clone();
        let weigh = |_: &_, bytes: &bytes::Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Self {
            namespaces,
            clock: around.clock.clone(),
            metrics: around.metrics.clone(),
            health: around.health.clone(),
            members: Members::new(members, around)?,
            store,
            index,
            stopping,
            flights: super::Flights::default(),
            checks: Coalesce::new(tasks.clone()),
            manifests: Coalesce::new(tasks.clone()),
            proofs: Coalesce::new(tasks.clone()),
            lists: Coalesce::new(tasks.clone()),
            tasks,
            hot: moka::sync::Cache::builder().max_capacity(HOT_BYTES).weigher(weigh).build(),
            negatives: negatives(),
            uncacheable: moka::sync::Cache::new(10_000),
            disk_trouble: tokio::sync::Notify::new(),
            disk_mended: tokio::sync::Notify::new(),
        })
    }

    /// Reads what a crash left between any two steps of a commit, and rebuilds an index that was lost. Its time grows with
    /// the number of partial files; with that of blobs only where the index has to be rebuilt.
    pub async fn recover(self: &Arc<Self>, index: Opened) -> Result<(), RecoveryError> {
        if index != Opened::Existing {
            self.rebuild(index).await?;
        }
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
                    let row = BlobRow { size_bytes, origin, stored: self.clock.now() };
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
        self.store.set_stored(self.index.stored_bytes().await?);
        self.show_stored();
        Ok(())
    }

    async fn rebuild(self: &Arc<Self>, index: Opened) -> Result<(), RecoveryError> {
        const STEP: usize = 1000;
        let (found, mut blobs) = tokio::sync::mpsc::channel::<Found>(STEP);
        let mirror = Arc::clone(self);
        let walk = tokio::task::spawn_blocking(move || {
            mirror.store.walk(|blob| {
                // The receiver is there until the walk has ended.
                let _ended = found.blocking_send(blob);
            })
        });
        if index == Opened::Damaged {
            tracing::warn!(
                "the index was damaged and is kept as index.redb.damaged; a new one is made from the stored blobs"
            );
        }
        let mut count = 0_usize;
        let mut batch = Vec::new();
        while blobs.recv_many(&mut batch, STEP).await > 0 {
            count += batch.len();
            let stored = self.clock.now();
            let record = |found: Found| {
                // Whose they were is not known any more: each authority has to prove them again.
                let row = BlobRow { size_bytes: found.size_bytes, origin: None, stored };
                Change::PutBlob { digest: found.digest, row }
            };
            self.index.apply(batch.drain(..).map(record).collect()).await?;
            if count.is_multiple_of(100 * STEP) {
                tracing::info!(blobs = count, "rebuilding the index");
            }
        }
        walk.await.map_err(io::Error::other)??;
        if count == 0 {
            return Ok(());
        }
        tracing::warn!(
            blobs = count,
            "the index was rebuilt from the stored blobs; tags and grants are asked for again"
        );
        Ok(self.index.apply_durably(Vec::new()).await?)
    }

    /// Sweeps unused grants some time after the start and once a day, for ever.
    pub async fn keep_house(self: Arc<Self>) {
        let mut pause = Duration::from_mins(10);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => self.sweep().await,
                () = self.stopping.cancelled() => return,
            }
            pause = Duration::from_hours(24);
        }
    }

    /// Writes the index down. Call it after all tasks have ended.
    pub async fn close(self: &Arc<Self>) {
        self.index.close().await;
        let mirror = Arc::clone(self);
        let said = tokio::task::spawn_blocking(move || mirror.store.say_goodbye()).await;
        if let Ok(Err(err)) = said {
            tracing::debug!(%err, "the next start takes this stop for an unclean one");
        }
    }

    pub(super) fn member(&self, authority: &Authority) -> Option<Arc<Member>> {
        if let Some(member) = self.members.configured.get(authority) {
            return Some(Arc::clone(member));
        }
        let wildcard = self.namespaces.admitted_by(authority)?;
        let template = self.members.templates.get(&wildcard.name())?;
        self.members.admitted.optionally_get_with(authority.clone(), || {
            let settings = Arc::clone(&template.settings);
            let upstream = Upstream::new(authority.clone(), settings, &template.clients, &self.members.around).ok()?;
            Some(Arc::new(Member { upstream, policy: template.policy.clone() }))
        })
    }
}

impl Members {
    fn new(settings: Vec<MemberSettings>, around: Surroundings) -> Result<Self, RecoveryError> {
        let mut members = Self {
            configured: HashMap::new(),
            templates: HashMap::new(),
            admitted: moka::sync::Cache::new(MAX_ADMITTED),
            around,
        };
        for MemberSettings { key, upstream: settings, policy } in settings {
            let name = settings.name.clone();
            let clients =
                UpstreamClients::new(&settings).map_err(|err| RecoveryError::Client { name: name.clone(), err })?;
            match key {
                MemberKey::Authority(authority) => {
                    let upstream = Upstream::new(authority.clone(), settings, &clients, &members.around)
                        .map_err(|err| RecoveryError::Url { name, err })?;
                    members.configured.insert(authority, Arc::new(Member { upstream, policy }));
                }
                MemberKey::Wildcard(wildcard) => {
                    members.templates.insert(wildcard, Template { settings, clients, policy });
                }
            }
        }
        Ok(members)
    }
}
