//! The limit of connections. A connection beyond it gets a short answer to come back later, and is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// Clients that are being refused at one time. Others are closed without an answer.
const REFUSED_AT_ONCE: usize = 64;
const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);
/// File descriptors reserved for files, upstreams and the admin side.
const OTHER_DESCRIPTORS: usize = 1024;

/// The limit of connections, over all listeners.
pub(in crate::server) struct ConnectionLimit {
    free: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    metrics: Metrics,
}

impl ConnectionLimit {
    /// Allows `most` connections, or fewer if the limit of file descriptors demands it.
    pub(in crate::server) fn new(most: usize, metrics: Metrics) -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let possible = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 2).max(1);
        if possible < most {
            tracing::warn!(
                max_connections = most,
                possible,
                "the limit on file descriptors (`ulimit -n`) allows fewer connections"
            );
        }
        let free = Arc::new(Semaphore::new(most.min(possible).min(Semaphore::MAX_PERMITS)));
        Self { free, refusals: Arc::new(Semaphore::new(REFUSED_AT_ONCE)), metrics }
    }

    /// A permit for this connection; `None` if it has to be refused.
    pub(in crate::server) fn take(
        &self,
        stream: TcpStream,
        speaks_tls: bool,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some((stream, permit));
        }
        self.metrics.connections_refused.inc();
        // A TLS handshake would cost more than the answer is worth.
        if let (false, Ok(one)) = (speaks_tls, Arc::clone(&self.refusals).try_acquire_owned()) {
            tokio::spawn(async move {
                let _one = one;
                let _left = tokio::time::timeout(REFUSAL_DEADLINE, refuse(stream)).await;
            });
        }
        None
    }
}

/// Reads before writing and until the client closes: closing with unread bytes would reset the connection and lose the
/// answer.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let body =
        r#"{"errors":[{"code":"UNKNOWN","message":"too many connections here; `max_connections` raises the limit"}]}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\ncache-control: no-store\r\n\
         docker-distribution-api-version: registry/2.0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}
