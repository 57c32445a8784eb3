//! The way to an upstream that is not next door: a forwarder in this process, slow or far.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const PIECE_BYTES: usize = 64 * 1024;
/// On the way in one direction of one connection: 40 ms at 1.6 GB/s.
const ON_THE_WAY: u32 = 64 * 1024 * 1024;
/// What a capped connection may catch up after it was not read.
const BURST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Bytes per second that each connection brings.
    Capped(u64),
    /// The time of a round trip. Making a connection takes one too. Bandwidth is what it was.
    Far(Duration),
}

/// Ends with its connections when dropped.
pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    /// Bytes, both ways.
    carried: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Forwarder {
    pub(crate) async fn start(wire: Wire, to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the system has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let carried = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, wire, to, Arc::clone(&carried)));
        Self { address, carried, task }
    }

    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, wire: Wire, to: SocketAddr, carried: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        // A side that is gone ends the connection, as on any wire.
        let carried = Arc::clone(&carried);
        connections.spawn(async move { drop(connect(near, wire, to, &carried).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(near: TcpStream, wire: Wire, to: SocketAddr, carried: &AtomicU64) -> io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    match wire {
        Wire::Capped(rate) => {
            tokio::try_join!(capped(from_near, to_far, u64::MAX, carried), capped(from_far, to_near, rate, carried))
                .map(drop)
        }
        Wire::Far(trip) => {
            // The kernel has made the connection already: what is sent first waits for what that would have taken.
            let there = delayed(from_near, to_far, trip / 2, trip, carried);
            tokio::try_join!(there, delayed(from_far, to_near, trip / 2, Duration::ZERO, carried)).map(drop)
        }
    }
}

/// A bucket of tokens for each connection.
async fn capped(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rate: u64, carried: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut due = Instant::now();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        carried.fetch_add(length as u64, Ordering::Relaxed);
        sleep_until(due).await;
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
        let earliest = Instant::now().checked_sub(BURST).unwrap_or(due);
        due = due.max(earliest) + Duration::from_secs_f64(length as f64 / rate as f64);
    }
}

/// Every piece arrives `later` than it was sent. The first one waits some more.
async fn delayed(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    later: Duration,
    at_first: Duration,
    carried: &AtomicU64,
) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(usize::try_from(ON_THE_WAY).unwrap_or(Semaphore::MAX_PERMITS)));
    let (send, mut pieces) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let not_before = Instant::now() + at_first + later;
    let sending = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            let length = from.read_buf(&mut buffer).await?;
            if length == 0 {
                // The other half ends after the last piece.
                drop(send);
                return Ok(());
            }
            carried.fetch_add(length as u64, Ordering::Relaxed);
            let room = free.acquire_many(u32::try_from(length).unwrap_or(ON_THE_WAY)).await;
            room.expect("it is never closed").forget();
            let due = (Instant::now() + later).max(not_before);
            if send.send((due, buffer.split().freeze())).is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    };
    let receiving = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
            free.add_permits(piece.len());
        }
        to.shutdown().await
    };
    tokio::try_join!(sending, receiving).map(drop)
}
