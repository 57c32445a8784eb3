//! Builds everything from a checked configuration, owns the tasks, and ends them in order.

mod background;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::{self, RecoverError};
use crate::clock::Clock;
use crate::config::Config;
use crate::jobs::VerifyJobs;
use crate::metrics::Metrics;
use crate::mirror::{Mirror, RegistryError};
use crate::server::{Admin, BindError, Listeners, PublicSide};
use crate::store;

pub use storage::OfflineMirror;
use storage::Opened;

/// A running mirror.
pub struct App {
    mirror: Arc<Mirror>,
    admin: Arc<Admin>,
    verify_jobs: Arc<VerifyJobs>,
    tasks: TaskTracker,
    /// Work of the cache that nobody asked for.
    background: JoinSet<()>,
    serving: JoinHandle<()>,
    /// No new connections.
    stop_accepting: CancellationToken,
    /// No more fills.
    stop_fills: CancellationToken,
    stop_admin: CancellationToken,
    admin_socket: Option<PathBuf>,
    deadline: Duration,
    /// Scheme, address and mount path of each listener.
    pub addresses: Vec<(&'static str, std::net::SocketAddr, String)>,
    pub admin_address: Option<std::net::SocketAddr>,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("the index {path} cannot be opened: {err}")]
    Index { path: PathBuf, err: std::io::Error },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl App {
    /// Binds, opens the storage, puts it in order, serves. Upstreams are not asked anything.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        let stop_fills = CancellationToken::new();
        let (opened, config) = Opened::open(config, clock.clone(), &metrics, &stop_fills).await?;
        let Opened { mirror, tasks, via } = opened;
        let was_clean = cache::begin_service(mirror.cache()).await;
        let admin_listen = config.server.admin_listen;
        let verify_jobs = Arc::new(VerifyJobs::new(mirror.cache(), clock, config.verify.rate));
        let listeners = match Listeners::bind(&config.server).await {
            Ok(listeners) => listeners,
            Err(err) => {
                cache::close(mirror.cache()).await;
                return Err(err.into());
            }
        };
        let (addresses, admin_address) = (listeners.addresses(), listeners.admin_address());
        let loopback = admin_listen.is_none_or(|address| address.ip().is_loopback());
        let token_file = config.server.admin_token_file.clone();
        let admin = Admin::new(&mirror, Arc::clone(&verify_jobs), metrics.clone(), loopback, token_file);
        let admin = Arc::new(admin);
        let admin_socket = config.server.admin_socket.clone();
        let public_side = Arc::new(PublicSide::new(Arc::clone(&mirror), config.server, metrics.clone(), via));
        let (stop_accepting, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let serving = listeners.serve(public_side, Arc::clone(&admin), stop_accepting.clone(), stop_admin.clone());
        let serving = tokio::spawn(serving);
        let background = background::start(&mirror, config.verify, was_clean);
        admin.set_ready(true);
        Ok(Self {
            mirror,
            admin,
            verify_jobs,
            tasks,
            background,
            serving,
            stop_accepting,
            stop_fills,
            stop_admin,
            admin_socket,
            deadline: config.shutdown_deadline,
            addresses,
            admin_address,
            metrics,
        })
    }

    /// For long work on what is stored.
    pub const fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// `/readyz` off, no new connections, then responses and fills until the deadline; what a fill has by then is kept.
    pub async fn stop(mut self) {
        self.admin.set_ready(false);
        self.verify_jobs.stop();
        self.stop_accepting.cancel();
        let deadline = tokio::time::Instant::now() + self.deadline;
        let responses = tokio::time::timeout_at(deadline, &mut self.serving).await;
        if responses.is_err() {
            tracing::warn!("responses are cut: they did not end within `shutdown_deadline`");
            self.serving.abort();
        }
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("downloads are interrupted; they go on from where they are at the next request");
        }
        self.stop_fills.cancel();
        // Writing down where the fills are takes a sync each.
        let _overdue = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        // Nothing may work on the index when it closes.
        let _overdue = tokio::time::timeout(Duration::from_secs(5), async {
            while self.background.join_next().await.is_some() {}
        })
        .await;
        cache::close(self.mirror.cache()).await;
        self.stop_admin.cancel();
        // While the storage is still locked: later the socket may be another server's. One that is left is replaced at the next start.
        let _left = self.admin_socket.as_deref().map(std::fs::remove_file);
    }
}
