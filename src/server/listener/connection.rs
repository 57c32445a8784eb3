//! One connection: handshake, protocol, deadlines.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use rustls::CertificateError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::write_timeout::WriteTimeout;
use super::{MAX_HEAD_BYTES, http2};
use crate::quote::quoted;
use crate::server::access::ClientCertificate;
use crate::server::request::handler::ClientConnection;
use crate::server::response::body::Body;
use crate::server::response::sendfile::queue::SendfileQueue;
use crate::server::response::sendfile::stream::SendfileStream;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to send a request's head; idle keep-alive connections end after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

pub(super) async fn serve_plain(stream: TcpStream, connection: ClientConnection, watcher: Watcher) {
    let sendfile_queue = SendfileQueue::default();
    let stall = connection.public_side.stall_limit();
    let io = WriteTimeout::new(SendfileStream::new(stream, sendfile_queue.clone()), stall);
    serve_http1(io, connection, Some(sendfile_queue), watcher).await;
}

pub(super) async fn serve_tls(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mut connection: ClientConnection,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let stream = tokio::select! {
        // A handshake must not outlive the listener.
        () = stop.cancelled() => return,
        stream = handshake(stream, acceptor, connection.peer) => stream,
    };
    let Some(stream) = stream else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    connection.certificate = shown.and_then(ClientCertificate::read).map(Arc::new);
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stall = connection.public_side.stall_limit();
    let io = WriteTimeout::new(stream, stall.clone());
    if is_http2 {
        // HTTP/2 connections stop by themselves.
        drop(watcher);
        let io = TokioIo::new(io.with_preface_deadline(HANDSHAKE_TIMEOUT));
        http2::serve(io, service(connection, None), stall, HEADER_TIMEOUT, stop).await;
    } else {
        serve_http1(io, connection, None, watcher).await;
    }
}

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor, client: SocketAddr) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        // Health probes connect and leave at once: no log line.
        Ok(Err(err)) if err.kind() == io::ErrorKind::UnexpectedEof => None,
        Ok(Err(err)) => {
            tracing::info!(client = %client.ip(), error = quoted(&err), "a TLS handshake failed: {}", advice(&err));
            None
        }
        Err(_elapsed) => None,
    }
}

/// What is probably wrong, by the error of a handshake.
fn advice(err: &io::Error) -> &'static str {
    let reason = match err.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::NoCertificatesPresented) => {
            return "the client shows no certificate, and `client_certificates` requires one";
        }
        Some(rustls::Error::InvalidCertificate(reason)) => reason,
        _ => return "the client trusts another CA, or speaks plain HTTP?",
    };
    if matches!(reason, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        "no authority of `client_ca` has signed the client's certificate"
    } else if matches!(reason, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        "the client's certificate has expired"
    } else if matches!(reason, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
        "the client's certificate is not valid yet, or a clock is wrong"
    } else {
        "the client's certificate is not accepted"
    }
}

async fn serve_http1<T>(
    io: WriteTimeout<T>,
    connection: ClientConnection,
    sendfile_queue: Option<SendfileQueue>,
    watcher: Watcher,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service(connection, sendfile_queue);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD_BYTES as usize);
    // Clients may end connections as they like; a failed response has its own access line.
    let _ended = watcher.watch(builder.serve_connection(TokioIo::new(io), service)).await;
}

fn service(
    connection: ClientConnection,
    sendfile_queue: Option<SendfileQueue>,
) -> impl HttpService<Incoming, ResBody = Body, Future: Send + 'static, Error = Infallible> {
    let connection = Arc::new(connection);
    service_fn(move |request| {
        let (connection, sendfile_queue) = (Arc::clone(&connection), sendfile_queue.clone());
        async move {
            let response = connection.answer(request).await;
            Ok::<_, Infallible>(match &sendfile_queue {
                Some(sendfile_queue) => response.map(|body| body.through(sendfile_queue)),
                None => response,
            })
        }
    })
}
