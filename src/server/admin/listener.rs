//! Accepts operators' connections, on the admin address and on the admin socket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::server::Admin;
use crate::server::admin::Origin;
use crate::server::admin::socket;
use crate::server::listener::BindError;

/// Time to send a request's head; idle connections end after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
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
            tracing::warn!(path = %path.display(), %err,
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
    loop {
        let accepted = tokio::select! {
            accepted = poll_fn(&accept) => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tokio::spawn(answer_operator(stream, Arc::clone(&admin), origin));
    }
}

async fn answer_operator(stream: impl AsyncRead + AsyncWrite + Unpin + Send, admin: Arc<Admin>, origin: Origin) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request, origin).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
}
