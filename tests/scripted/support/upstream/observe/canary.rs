//! Places that must not be reached, and a place that cannot be.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;

/// A listener that counts whoever connects.
///
/// It is asked, not notified: the kernel completes a connection before anybody accepts it, so that the count is exact
/// at the moment of the question.
pub(crate) struct Canary {
    listener: TcpListener,
    connections: AtomicUsize,
}

impl Canary {
    pub(crate) fn listen() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn at(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a loopback port is free");
        listener.set_nonblocking(true).expect("sockets can do that");
        Self { listener, connections: AtomicUsize::new(0) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// `http://address`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Connections since the start; each is closed as it is counted.
    pub(crate) fn connections(&self) -> usize {
        loop {
            match self.listener.accept() {
                Ok(_) => self.connections.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the canary cannot look: {error}"),
            };
        }
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.connections(), 0, "somebody connected to {}", self.address());
    }
}

/// An address where connecting neither succeeds nor fails: the backlog is full, and the kernel drops what comes.
pub(crate) struct BlackHole {
    listener: tokio::net::TcpListener,
    _fillers: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a loopback port is free");
        let listener = socket.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let fillers = std::iter::from_fn(connect).take(64).collect::<Vec<_>>();
        assert!(fillers.len() < 64, "this kernel's backlog is never full");
        Self { listener, _fillers: fillers }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// `http://address`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}
