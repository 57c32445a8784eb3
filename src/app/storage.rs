//! Opens a storage, recovers it, and builds its mirror.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::cache;
use crate::cache::scrub::VerifySettings;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Health;
use crate::index::Index;
use crate::jobs::look::CoverageList;
use crate::jobs::warm::schedule::WarmSchedule;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, MirrorSettings};
use crate::oci::Digest;
use crate::server::ServerSettings;
use crate::store::{self, Store};
use crate::upstream::{Context, Troubles};

pub(super) struct Opened {
    pub(super) mirror: Arc<Mirror>,
    /// Work that outlives the request which started it.
    pub(super) tasks: TaskTracker,
    /// Cancelled when work must end now.
    pub(super) stopping: CancellationToken,
    /// The server's own value of `Via`.
    pub(super) via: Arc<str>,
}

/// The part of a configuration that the server needs besides the mirror.
pub(super) struct Serving {
    pub(super) server: ServerSettings,
    pub(super) verify: VerifySettings,
    pub(super) coverage: Vec<CoverageList>,
    pub(super) warm: Vec<WarmSchedule>,
    pub(super) shutdown_deadline: Duration,
}

impl Opened {
    /// Takes the lock, opens store and index, and recovers. Nothing is served, and upstreams are not asked anything.
    pub(super) async fn open(config: Config, clock: Clock, metrics: &Metrics) -> Result<(Self, Serving), StartError> {
        let health = Health::new(metrics.storage_healthy.clone());
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let root = config.storage.path;
        let index_path = root.join("index.redb");
        let limits = config.storage.limits;
        let (store, index) = {
            let (health, now) = (health.clone(), clock.now());
            let open = move || {
                let store = Store::open(&root, limits)?;
                let walk = |each: &mut dyn FnMut(Digest, u64)| {
                    store::recovery::walk(&store, |blob| each(blob.digest, blob.size_bytes))
                };
                let index = Index::open(&root, health, now, &walk);
                store.sync_root()?;
                Ok::<_, store::OpenError>((store, index))
            };
            let handle = tokio::runtime::Handle::current();
            let opened = tokio::task::spawn_blocking(move || {
                let _runtime = handle.enter();
                open()
            });
            opened.await.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))?
        };
        let (index, _opened) = index.map_err(|err| StartError::Index { path: index_path, err })?;
        let via: Arc<str> = format!("1.1 roadstead-{}", random_name()).into();
        let context = Context {
            troubles: Troubles::new(clock.clone(), metrics.clone()),
            clock,
            metrics: metrics.clone(),
            health,
            tasks: tasks.clone(),
            via: Arc::clone(&via),
        };
        let settings = MirrorSettings {
            namespaces: config.namespaces,
            registries: config.upstreams,
            eviction: config.storage.eviction,
            fills: config.fills,
            completion: config.completion,
        };
        let mirror = Arc::new(Mirror::new(settings, store, index, context, stopping.clone())?);
        cache::recover(mirror.cache()).await?;
        let serving = Serving {
            server: config.server,
            verify: config.storage.verify,
            coverage: config.coverage,
            warm: config.warm,
            shutdown_deadline: config.shutdown_deadline,
        };
        Ok((Self { mirror, tasks, stopping, via }, serving))
    }
}

/// The mirror of a stopped server, for commands: nothing is served, fetched, or done in the background.
pub struct OfflineMirror {
    mirror: Arc<Mirror>,
}

impl OfflineMirror {
    /// Takes the lock, and recovers from a crash.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let (opened, _serving) = Opened::open(config, clock, &Metrics::default()).await?;
        Ok(Self { mirror: opened.mirror })
    }

    /// The mirror of this storage.
    pub const fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Writes the index down.
    pub async fn close(self) {
        cache::leave(self.mirror.cache()).await;
    }
}

fn random_name() -> String {
    let mut random = [0; 8];
    // Without randomness, the process id keeps two instances from taking each other for a loop.
    match getrandom::fill(&mut random) {
        Ok(()) => format!("{:016x}", u64::from_le_bytes(random)),
        Err(_) => std::process::id().to_string(),
    }
}
