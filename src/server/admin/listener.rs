//! Accepts operators' connections, on the admin address and on the admin socket.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::server::Admin;
use crate::server::admin::socket;
use crate::server::admin::{Authorized, Origin};
use crate::server::listener::BindError;
use crate::server::listener::write_timeout::WriteTimeout;

/// Time to send a request's head; idle connections end after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is cut.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// Connections at one time, on the address and on the socket each. They come out of the descriptors that clients leave.
const MOST: usize = 64;
/// Wait after a failed accept, as when file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the admin socket. `None` if the disk takes no socket (full, failing, or of a kind without sockets): the server
/// serves pulls without it. An error if the path itself is wrong or in use.
pub(in crate::server) fn open_socket(path: &Path) -> Result<Option<UnixListener>, BindError> {
    match socket::bind(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(err)
            if matches!(
                err.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::AddrInUse | io::ErrorKind::NotFound
            ) =>
        {
            Err(BindError::Socket { path: path.to_owned(), err })
        }
        Err(err) => {
            tracing::warn!(path = %path.display(), error = %err,
                "the admin socket cannot be opened; commands cannot reach this server until the next start");
            Ok(None)
        }
    }
}

pub(in crate::server) async fn serve_network(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    serve(|cx| listener.poll_accept(cx), admin, Origin::Network, stop).await;
}

pub(in crate::server) async fn serve_socket(listener: UnixListener, admin: Arc<Admin>, stop: CancellationToken) {
    serve(|cx| listener.poll_accept(cx), admin, Origin::Socket, stop).await;
}

async fn serve<S, A>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<(S, A)>>,
    admin: Arc<Admin>,
    origin: Origin,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut open = OpenConnections::default();
    loop {
        let accepted = tokio::select! {
            accepted = poll_fn(&accept) => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if open.make_room() {
            let is_kept = Arc::<AtomicBool>::default();
            let task = tokio::spawn(answer_operator(stream, Arc::clone(&admin), origin, Arc::clone(&is_kept)));
            open.0.push_back(OpenConnection { task: task.abort_handle(), is_kept });
        }
    }
}

/// Connections in the order in which they were opened.
#[derive(Default)]
struct OpenConnections(VecDeque<OpenConnection>);

struct OpenConnection {
    task: AbortHandle,
    /// It has shown the token, or come over the socket: it is not cut for others.
    is_kept: Arc<AtomicBool>,
}

impl OpenConnections {
    /// Whether one more may be opened. If need be, the oldest of a stranger is cut: strangers that only hold connections open
    /// must not keep probes out.
    fn make_room(&mut self) -> bool {
        if self.0.len() >= MOST {
            self.0.retain(|connection| !connection.task.is_finished());
        }
        if self.0.len() < MOST {
            return true;
        }
        let oldest = self.0.iter().position(|connection| !connection.is_kept.load(Ordering::Relaxed));
        let cut = oldest.and_then(|oldest| self.0.remove(oldest));
        cut.map(|cut| cut.task.abort()).is_some()
    }
}

async fn answer_operator(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    admin: Arc<Admin>,
    origin: Origin,
    is_kept: Arc<AtomicBool>,
) {
    let service = service_fn(move |request| {
        let (admin, is_kept) = (Arc::clone(&admin), Arc::clone(&is_kept));
        async move {
            let response = admin.answer(request, origin).await;
            if response.extensions().get::<Authorized>().is_some() {
                is_kept.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let io = WriteTimeout::new(stream, WRITE_TIMEOUT);
    let _ended = builder.serve_connection(TokioIo::new(io), service).await;
}
