//! A port that stays ours while nothing listens on it.
//!
//! A registry that is "down" must refuse connections and come back at the same address. If the port were simply let
//! go, another test of the same run could be given it in between.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    /// Bound but not listening: the kernel refuses connections, and gives the port to nobody else.
    _reserved: TcpSocket,
}

impl Port {
    pub(crate) fn reserve(ip: IpAddr) -> io::Result<Self> {
        let reserved = reusable(SocketAddr::new(ip, 0))?;
        Ok(Self { address: reserved.local_addr()?, _reserved: reserved })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        reusable(self.address)?.listen(1024)
    }
}

fn reusable(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
