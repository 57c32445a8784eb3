//! Accepting connections, and letting hyper speak on them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::line::{Line, cut};
use super::serve::serve;
use super::shared::Shared;
use super::wire::Wire;

/// A listener at work. Dropped, it ends with all its connections, a little later.
pub(crate) struct Listening {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Listening {
    pub(crate) fn begin(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, tls, shared, stopped));
        Self { stop: Some(stop), task }
    }

    /// Resolves when the port is shut and every connection is gone.
    pub(crate) async fn end(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.expect("the accept loop does not panic");
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("the test has file descriptors left");
                let open = Open::count(&shared);
                if !shared.closes_on_accept.load(Ordering::Relaxed) {
                    connections.spawn(connection(stream, tls.clone(), open));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// A connection that is counted as open until this goes.
struct Open {
    shared: Arc<Shared>,
    number: usize,
}

impl Open {
    fn count(shared: &Arc<Shared>) -> Self {
        let mut number = 0;
        shared.connections.send_modify(|connections| {
            connections.total += 1;
            connections.open += 1;
            connections.peak = connections.peak.max(connections.open);
            number = connections.total;
        });
        Self { shared: Arc::clone(shared), number }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.send_modify(|connections| connections.open -= 1);
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, open: Open) {
    let mut cut_all = open.shared.cut_all.subscribe();
    stream.set_nodelay(true).expect("TCP can do that");
    let spoken = async {
        match tls {
            None => speak(stream, Line::new(open.number, false), &open.shared).await,
            Some(tls) => {
                // A client that does not trust us ends here, as it should.
                let Ok(stream) = tls.accept(stream).await else { return };
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                speak(stream, Line::new(open.number, has_certificate), &open.shared).await;
            }
        }
    };
    tokio::select! {
        () = spoken => {}
        _ = cut_all.changed() => {}
    }
}

async fn speak<S>(stream: S, line: Line, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = Arc::new(line);
    let wire = Wire::new(stream, Arc::clone(&line), Arc::clone(&shared.rate));
    let service = service_fn(|request| {
        let (shared, line) = (Arc::clone(shared), Arc::clone(&line));
        async move {
            let served = AssertUnwindSafe(serve(Arc::clone(&shared), line, request)).catch_unwind().await;
            served.unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<&str>().map(ToString::to_string);
                let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
                shared.panicked().push(message.unwrap_or_else(|| "something".to_owned()));
                Err(cut())
            })
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Signed URLs are long.
    http.http2().max_header_list_size(1024 * 1024);
    // How a connection ends is the client's business or the script's; either way it is gone.
    let _ended = http.serve_connection(TokioIo::new(wire), service).await;
}
