//! The network between two programs, and ways to spoil it. Knows TCP only.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a proxy that cannot go on fails the test")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::upstream::{PATIENCE, Port};

/// A proxy on a loopback port of its own.
pub(crate) struct Chaos {
    port: Port,
    target: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    stalled: bool,
    /// Connections up to this number carry nothing any more.
    dead: usize,
    /// Connections up to this number are to end.
    broken: usize,
    accepted: usize,
    open: usize,
}

impl Chaos {
    pub(crate) fn in_front_of(target: SocketAddr) -> Self {
        let port = Port::reserve(Ipv4Addr::LOCALHOST.into()).expect("a loopback port is free");
        let chaos = Self { port, target, state: Arc::default(), accepting: Mutex::default() };
        chaos.restore();
        chaos
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Resets every connection that is open; new ones are let through. Resolves when they are gone.
    pub(crate) async fn break_now(&self) {
        self.state.send_modify(|state| state.broken = state.accepted);
        let mut states = self.state.subscribe();
        let gone = tokio::time::timeout(PATIENCE, states.wait_for(|state| state.open == 0)).await;
        assert!(gone.is_ok(), "connections outlived their end");
    }

    /// New connections are refused; open ones stay.
    pub(crate) async fn refuse(&self) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Aborted, as it should be; now the port is shut.
            let _aborted = accepting.await;
        }
    }

    /// New connections are let through again.
    pub(crate) fn restore(&self) {
        let mut accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        if accepting.is_none() {
            let listener = self.port.listen().expect("the port is reserved for us");
            *accepting = Some(tokio::spawn(accept(listener, self.target, Arc::clone(&self.state))));
        }
    }

    /// Connections stay up, and no byte passes in either direction.
    pub(crate) fn stall(&self) {
        self.state.send_modify(|state| state.stalled = true);
    }

    /// Lets all bytes pass that were held back.
    pub(crate) fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    /// The connections of now stay up and carry nothing any more; new ones work.
    pub(crate) fn deaden(&self) {
        self.state.send_modify(|state| state.dead = state.accepted);
    }

    /// Connections since the start.
    pub(crate) fn connections(&self) -> usize {
        self.state.borrow().accepted
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.state.borrow().open
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            accepting.abort();
        }
        self.state.send_modify(|state| state.broken = usize::MAX);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<watch::Sender<State>>) {
    loop {
        let (client, _) = listener.accept().await.expect("the test has file descriptors left");
        let mut number = 0;
        state.send_modify(|state| {
            state.accepted += 1;
            state.open += 1;
            number = state.accepted;
        });
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut states = state.subscribe();
            tokio::select! {
                _ = states.wait_for(|state| state.broken >= number) => {}
                _ended = relay(client, target, number, &state) => {}
            }
            state.send_modify(|state| state.open -= 1);
        });
    }
}

/// Ends when both directions have, or when either fails. Cut short, it resets both connections.
async fn relay(client: TcpStream, target: SocketAddr, number: usize, state: &watch::Sender<State>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pump(from_client, to_server, number, state.subscribe());
    let down = pump(from_server, to_client, number, state.subscribe());
    let (to_server, to_client) = tokio::try_join!(up, down)?;
    drop((to_server, to_client));
    Ok(())
}

/// Gives the writing half back, since to drop it is to reset what is still on its way.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    mut states: watch::Receiver<State>,
) -> io::Result<OwnedWriteHalf> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        drop(states.wait_for(|state| !state.stalled && state.dead < number).await);
        if read == 0 {
            to.shutdown().await?;
            return Ok(to);
        }
        to.write_all(&buffer[..read]).await?;
    }
}
