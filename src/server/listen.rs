//! Listeners and connections: accept, handshake, serve, drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::Door;
use super::pull::Connection;
use super::stall::StallGuard;
use super::tls::Current;
use super::{Admin, CertificateError, Front, ListenerSettings, ServerSettings, admin_socket};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Also ends idle keep-alive connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

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

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {err}")]
    Address { address: SocketAddr, err: io::Error },
    #[error("cannot open the admin socket {path}: {err}; `server.admin_socket` may name another path, or be \"off\"")]
    Socket { path: PathBuf, err: io::Error },
    #[error("cannot serve TLS: {0}")]
    Certificate(#[from] CertificateError),
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Listeners {
    /// Binds every address, or none. The storage is locked by now.
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
            Some(path) => Some(admin_socket::bind(path).map_err(|err| BindError::Socket { path: path.clone(), err })?),
            None => None,
        };
        Ok(Self { bound, admin, admin_socket })
    }

    /// Where clients can connect: scheme, address, mount path.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr, String)> {
        let address = |bound: &Bound| {
            let scheme = if bound.tls.is_some() { "https" } else { "http" };
            Some((scheme, bound.listener.local_addr().ok()?, bound.settings.mount.clone()))
        };
        self.bound.iter().filter_map(address).collect()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop`, then lets responses end. The admin side goes on until `admin_stop`.
    pub async fn serve(
        self,
        front: Arc<Front>,
        admin: Arc<Admin>,
        stop: CancellationToken,
        admin_stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        if let Some(listener) = self.admin {
            tokio::spawn(serve_admin(listener, Arc::clone(&admin), admin_stop.clone()));
        }
        if let Some(listener) = self.admin_socket {
            tokio::spawn(serve_commands(listener, admin, admin_stop));
        }
        for bound in self.bound {
            tasks.spawn(serve_clients(bound, Arc::clone(&front), stop.clone()));
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|err| BindError::Address { address, err })
}

async fn serve_clients(bound: Bound, front: Arc<Front>, stop: CancellationToken) {
    let Bound { listener, settings, tls } = bound;
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let reload = tls.as_ref().map(|(_, current)| tokio::spawn(Arc::clone(current).follow()));
    let settings = Arc::new(settings);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Out of file descriptors, most likely: connections that end give some back.
                tracing::warn!(%err, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let connection = Connection { front: Arc::clone(&front), listener: Arc::clone(&settings), local, peer };
        let acceptor = tls.as_ref().map(|(acceptor, _)| acceptor.clone());
        let (watcher, stop) = (graceful.watcher(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                // A handshake must not outlive the listener.
                () = stop.cancelled(), if acceptor.is_some() => {}
                stream = handshake(stream, acceptor.clone()) => {
                    if let Some(stream) = stream {
                        serve_connection(stream, connection, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    if let Some(reload) = reload {
        reload.abort();
    }
    connections.close();
    // Idle connections end at once, the others with their response.
    graceful.shutdown().await;
    connections.wait().await;
}

/// Either kind of stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn handshake(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    // Small answers must not wait for an acknowledgement. Without it they are only slower.
    let _slower = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(err)) => {
            tracing::debug!(%err, "a TLS handshake failed");
            None
        }
        Err(_elapsed) => None,
    }
}

async fn serve_connection(stream: Box<dyn Stream>, connection: Connection, watcher: Watcher) {
    // Not HTTP/2: a stream whose window stays closed is no pending write, so that a client that takes nothing could not
    // be told from one that waits, and would hold its request for ever.
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let stall = connection.front.settings.stall_timeout;
    let connection = Arc::new(connection);
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let io = TokioIo::new(StallGuard::new(stream, stall, HEADER_TIMEOUT));
    let serving = watcher.watch(builder.serve_connection(io, service).into_owned());
    // What ends a connection is the client's business; what went wrong in a response is in its line.
    let _ended = serving.await;
}

async fn serve_admin(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted { stream } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            },
            () = stop.cancelled() => return,
        };
        tokio::spawn(answer_operator(stream, Arc::clone(&admin), Door::Network));
    }
}

async fn serve_commands(listener: UnixListener, admin: Arc<Admin>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted { stream } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            },
            () = stop.cancelled() => return,
        };
        tokio::spawn(answer_operator(stream, Arc::clone(&admin), Door::Socket));
    }
}

async fn answer_operator(stream: impl AsyncRead + AsyncWrite + Unpin + Send, admin: Arc<Admin>, door: Door) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request, door).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
}
