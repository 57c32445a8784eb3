//! Large bodies, dropped in the kernel: the client never touches a byte of them.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// On Linux, what a TCP socket received is dropped instead of copied.
pub(super) const MSG_TRUNC: i32 = 0x20;
const DROP_BYTES: usize = 1024 * 1024;
const HEAD_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_mins(5);
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// One connection, used for one request after the other.
pub(crate) struct Stream {
    socket: TcpStream,
    host: SocketAddr,
    /// Made when the first large body comes.
    scrap: Box<[MaybeUninit<u8>]>,
}

/// What came of a request.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    /// From just before it was sent to the first byte of the body.
    pub(crate) first_byte: Duration,
    pub(crate) bytes: u64,
    /// Whether the server says that it had it.
    pub(crate) is_hit: bool,
}

impl Stream {
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(to)?, to)
    }

    /// From an address of its own: there are only so many ports for each.
    pub(crate) fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&to.into())?;
        Self::over(socket.into(), to)
    }

    fn over(stream: TcpStream, to: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket: stream, host: to, scrap: Box::default() })
    }

    /// Asks, and reads the answer to its end. It must be a 200 with a length.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Took> {
        let begun = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {ACCEPT}\r\n\r\n", self.host);
        self.socket.write_all(request.as_bytes())?;
        let mut buffer = [0; HEAD_BYTES];
        let (mut received, mut first_byte) = (0, None);
        let (head, length) = loop {
            let there = buffer.get(..received).unwrap_or_default();
            if let Some((head, length)) = super::requests::head(there)? {
                break (head, length);
            }
            let more = io::Read::read(&mut self.socket, buffer.get_mut(received..).unwrap_or_default())?;
            if more == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received += more;
        };
        let bytes = length as u64;
        let is_hit = says_hit(buffer.get(..head).unwrap_or_default());
        let mut left = length.saturating_sub(received - head);
        if received > head || left == 0 {
            first_byte = Some(begun.elapsed());
        }
        if left > 0 && self.scrap.is_empty() {
            self.scrap = Box::new_uninit_slice(DROP_BYTES);
        }
        let raw = SockRef::from(&self.socket);
        while left > 0 {
            let scrap = self.scrap.get_mut(..left.min(DROP_BYTES)).unwrap_or_default();
            let dropped = raw.recv_with_flags(scrap, MSG_TRUNC)?;
            if dropped == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            first_byte.get_or_insert_with(|| begun.elapsed());
            left -= dropped;
        }
        Ok(Took { first_byte: first_byte.unwrap_or_else(|| begun.elapsed()), bytes, is_hit })
    }
}

/// By `Cache-Status` (RFC 9211).
fn says_hit(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.lines().any(|line| line.starts_with("cache-status:") && line.contains("; hit"))
}

/// Each of the paths is asked for by a client of its own, so many times, on one connection. How long it took from the
/// moment when all were there, and how many bytes came.
pub(crate) fn read_all(from: SocketAddr, paths: &[&str], times: usize) -> (Duration, u64) {
    let all_there = Barrier::new(paths.len() + 1);
    let (begun, bytes) = thread::scope(|scope| {
        let clients: Vec<_> = paths
            .iter()
            .map(|path| {
                scope.spawn(|| {
                    let mut stream = Stream::connect(from).expect("the server accepts connections");
                    all_there.wait();
                    let took = (0..times).map(|_| stream.get(path).expect("every client gets what it asks for").bytes);
                    took.sum::<u64>()
                })
            })
            .collect();
        all_there.wait();
        let begun = Instant::now();
        (begun, clients.into_iter().map(|client| client.join().expect("every client gets what it asks for")).sum())
    });
    (begun.elapsed(), bytes)
}
