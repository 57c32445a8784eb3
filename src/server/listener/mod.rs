//! Listeners: bind, accept, drain.

mod client_certificates;
mod connection;
mod connection_limit;
mod error;
pub(in crate::server) mod http2;
mod tls;
pub(in crate::server) mod write_timeout;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::admin::listener as operators;
use crate::server::request::handler::ClientConnection;
use crate::server::{Admin, ListenerSettings, PublicSide, ServerSettings};
use connection_limit::ConnectionLimit;
use tls::Current;

pub use error::{BindError, CertificateError};
pub use tls::{check_certificates, load_identity};

/// Least time between two log lines about refused connections.
const WARN_EVERY: Duration = Duration::from_mins(1);
/// Largest request head in bytes. Also the bytes that may wait to be written before a body is polled for more.
pub(in crate::server) const MAX_HEAD_BYTES: u32 = 32 * 1024;

/// Bound addresses, not yet served.
pub struct Listeners {
    bound: Vec<Bound>,
    admin: Option<TcpListener>,
    admin_socket: Option<UnixListener>,
}

struct Bound {
    listener: TcpListener,
    settings: ListenerSettings,
    tls: Option<(TlsAcceptor, Arc<Current>)>,
}

impl Listeners {
    /// Binds every address, or none. The storage must be locked by now.
    pub async fn bind(server: &ServerSettings) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        for settings in &server.listeners {
            let tls = match &settings.tls {
                Some(files) => {
                    let current = Current::load(files)?;
                    Some((TlsAcceptor::from(Arc::new(current.server_config()?)), current))
                }
                None => None,
            };
            bound.push(Bound { listener: listen(settings.address).await?, settings: settings.clone(), tls });
        }
        let admin = match server.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let admin_socket = match &server.admin_socket {
            Some(path) => operators::open_socket(path)?,
            None => None,
        };
        Ok(Self { bound, admin, admin_socket })
    }

    /// The URLs that clients can use: scheme, address, first mount path.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr, String)> {
        let address = |bound: &Bound| {
            let scheme = if bound.tls.is_some() { "https" } else { "http" };
            Some((
                scheme,
                bound.listener.local_addr().ok()?,
                bound.settings.mounts.first().cloned().unwrap_or_default(),
            ))
        };
        self.bound.iter().filter_map(address).collect()
    }

    /// The bound address of the admin side; `None` without one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop`, then lets responses end. The admin side serves until `admin_stop`.
    pub async fn serve(
        self,
        public_side: Arc<PublicSide>,
        admin: Arc<Admin>,
        stop: CancellationToken,
        admin_stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        if let Some(listener) = self.admin {
            tokio::spawn(operators::serve_network(listener, Arc::clone(&admin), admin_stop.clone()));
        }
        if let Some(listener) = self.admin_socket {
            tokio::spawn(operators::serve_socket(listener, admin, admin_stop));
        }
        let connection_limit =
            Arc::new(ConnectionLimit::new(public_side.settings.max_connections, public_side.metrics.clone()));
        for bound in self.bound {
            tasks.spawn(serve_clients(bound, Arc::clone(&public_side), Arc::clone(&connection_limit), stop.clone()));
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|err| BindError::Address { address, err })
}

async fn serve_clients(
    bound: Bound,
    public_side: Arc<PublicSide>,
    connection_limit: Arc<ConnectionLimit>,
    stop: CancellationToken,
) {
    let Bound { listener, settings, tls } = bound;
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let reload = tls.as_ref().map(|(_, current)| tokio::spawn(Arc::clone(current).follow()));
    let settings = Arc::new(settings);
    let mut warned = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Probably out of file descriptors: ending connections give some back.
                tracing::warn!(error = %err, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some((stream, permit)) = connection_limit.take(stream, tls.is_some()) else {
            if warned.is_none_or(|at: Instant| at.elapsed() > WARN_EVERY) {
                tracing::warn!(address = %settings.address, "too many connections: new ones are turned away");
                warned = Some(Instant::now());
            }
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let connection = ClientConnection {
            public_side: Arc::clone(&public_side),
            listener: Arc::clone(&settings),
            local,
            peer,
            certificate: None,
        };
        let acceptor = tls.as_ref().map(|(acceptor, _)| acceptor.clone());
        let (watcher, stop) = (graceful.watcher(), stop.clone());
        // Small answers must not wait for an acknowledgement. If this fails, they are only slower.
        let _slower = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else {
            connections.spawn(async move {
                let _permit = permit;
                connection::serve_plain(stream, connection, watcher).await;
            });
            continue;
        };
        connections.spawn(async move {
            let _permit = permit;
            connection::serve_tls(stream, acceptor, connection, watcher, stop).await;
        });
    }
    drop(listener);
    if let Some(reload) = reload {
        reload.abort();
    }
    connections.close();
    // Idle connections end at once, others after their response.
    graceful.shutdown().await;
    connections.wait().await;
}
