//! Builds everything from a checked configuration, owns the tasks, and ends them in order.

mod background;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::{self, RecoverError};
use crate::clock::Clock;
use crate::config::Config;
use crate::jobs::{JobRunner, VerifyJobs};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, RegistryError};
use crate::server::{Admin, BindError, Listeners, PublicSide};
use crate::store;

use background::Background;
pub use storage::OfflineMirror;
use storage::Opened;

/// A running mirror.
pub struct App {
    mirror: Arc<Mirror>,
    admin: Arc<Admin>,
    verify_jobs: Arc<VerifyJobs>,
    job_runner: Arc<JobRunner>,
    background: Background,
    admin_socket: Option<PathBuf>,
    shutdown_deadline: Duration,
    /// Scheme, address and mount path of each listener.
    pub addresses: Vec<(&'static str, std::net::SocketAddr, String)>,
    /// The address of health, metrics and the API; `None` without one.
    pub admin_address: Option<std::net::SocketAddr>,
    pub metrics: Metrics,
}

/// A server or a command that cannot start.
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
    /// Opens the storage and puts it in order, binds the addresses, and serves. Upstreams are not asked anything.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        let (opened, config) = Opened::open(config, clock.clone(), &metrics).await?;
        let mirror = Arc::clone(&opened.mirror);
        let was_clean = cache::begin_service(mirror.cache()).await;
        let listeners = match Listeners::bind(&config.server).await {
            Ok(listeners) => listeners,
            Err(err) => {
                cache::close(mirror.cache()).await;
                return Err(err.into());
            }
        };
        let (addresses, admin_address) = (listeners.addresses(), listeners.admin_address());
        let admin_socket = config.server.admin_socket.clone();
        let verify_jobs = Arc::new(VerifyJobs::new(mirror.cache(), clock.clone(), config.verify.rate));
        let job_runner = Arc::new(JobRunner::new(&mirror));
        let jobs = (Arc::clone(&verify_jobs), Arc::clone(&job_runner));
        let admin = Arc::new(Admin::new(&mirror, jobs, metrics.clone(), &config.server));
        let via = Arc::clone(&opened.via);
        let public_side = Arc::new(PublicSide::new(Arc::clone(&mirror), config.server, metrics.clone(), via, clock));
        let background = Background::start(
            &opened,
            listeners,
            public_side,
            Arc::clone(&admin),
            (config.verify, config.coverage),
            was_clean,
        );
        job_runner.resume().await;
        opened.tasks.spawn(Arc::clone(&job_runner).run_schedules(config.warm));
        admin.set_ready(true);
        Ok(Self {
            mirror,
            admin,
            verify_jobs,
            job_runner,
            background,
            admin_socket,
            shutdown_deadline: config.shutdown_deadline,
            addresses,
            admin_address,
            metrics,
        })
    }

    /// For long work on what is stored.
    pub const fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Ends everything in order. Responses and fills have until `server.shutdown_deadline`; interrupted fills keep their
    /// bytes.
    pub async fn stop(mut self) {
        self.admin.set_ready(false);
        self.verify_jobs.stop();
        self.job_runner.stop();
        self.background.drain(Instant::now() + self.shutdown_deadline).await;
        cache::close(self.mirror.cache()).await;
        self.background.stop_admin();
        // While the storage is still locked: later the socket may be another server's. One that is left is replaced at the
        // next start.
        let _left = self.admin_socket.as_deref().map(std::fs::remove_file);
    }
}
