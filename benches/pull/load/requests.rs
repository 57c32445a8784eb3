//! Many small answers: each request is one write and one read, on few threads.
//!
//! Status and length of every answer are checked; of each connection's last one, the digest.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use roadstead::oci::{Algorithm, Digest};

/// As many as `wrk` is usually given on two cores.
const THREADS: usize = 2;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const ANSWERED: &[u8] = b"HTTP/1.1 200 ";
const HEAD_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// What may be asked for.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) path: String,
    pub(crate) digest: String,
    /// Of the body, in bytes.
    pub(crate) length: usize,
    /// For a manifest.
    pub(crate) accept: Option<&'static str>,
}

pub(crate) struct Answers {
    pub(crate) count: usize,
    pub(crate) took: Duration,
    /// Nanoseconds, the shortest first.
    latencies: Vec<u32>,
}

impl Answers {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    /// The time within which this many of a hundred answers came, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        f64::from(self.latencies.get(at).copied().unwrap_or(0)) / 1000.0
    }
}

/// Asks without a pause on so many connections. Each goes round the paths, beginning at another one.
pub(crate) fn requests(to: SocketAddr, paths: &[Wanted], connections: usize, lasting: Duration) -> Answers {
    let threads = THREADS.min(connections);
    let all_there = Barrier::new(threads + 1);
    let (mut latencies, took) = thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let own = (thread..connections).step_by(threads);
                let all_there = &all_there;
                scope.spawn(move || {
                    let mut load = Load::new(to, paths, own).expect("the server accepts connections");
                    all_there.wait();
                    load.run(Instant::now() + lasting).expect("every request is answered");
                    load.latencies
                })
            })
            .collect();
        all_there.wait();
        let begun = Instant::now();
        let joined = started.into_iter().map(|thread| thread.join().expect("every answer is right"));
        (joined.flatten().collect::<Vec<_>>(), begun.elapsed())
    });
    latencies.sort_unstable();
    Answers { count: latencies.len(), took, latencies }
}

struct Load<'a> {
    poll: Poll,
    paths: &'a [Wanted],
    requests: Vec<Vec<u8>>,
    connections: Vec<Connection>,
    latencies: Vec<u32>,
}

struct Connection {
    stream: TcpStream,
    /// An index of the paths.
    path: usize,
    buffer: Box<[u8]>,
    received: usize,
    /// Length of the last answer's head, which is likely that of the next one.
    head: usize,
    sent: Instant,
}

impl<'a> Load<'a> {
    fn new(to: SocketAddr, paths: &'a [Wanted], own: impl Iterator<Item = usize>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let longest = paths.iter().map(|path| path.length).max().unwrap_or(0);
        let connect = |(token, first): (usize, usize)| {
            let stream = std::net::TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(token), Interest::READABLE)?;
            let buffer = vec![0; longest + HEAD_BYTES].into_boxed_slice();
            Ok(Connection { stream, path: first % paths.len(), buffer, received: 0, head: 0, sent: Instant::now() })
        };
        let connections = own.enumerate().map(connect).collect::<io::Result<_>>()?;
        let requests = paths.iter().map(|path| path.request(to)).collect();
        Ok(Self { poll, paths, requests, connections, latencies: Vec::with_capacity(1 << 20) })
    }

    fn run(&mut self, until: Instant) -> io::Result<()> {
        let mut running = self.connections.len();
        for connection in &mut self.connections {
            connection.ask(&self.requests)?;
        }
        let mut events = Events::with_capacity(1024);
        while running > 0 {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            for event in &events {
                let Some(connection) = self.connections.get_mut(event.token().0) else { continue };
                let Some(path) = self.paths.get(connection.path) else { continue };
                if !connection.receive(path)? {
                    continue;
                }
                let now = Instant::now();
                let latency = now.duration_since(connection.sent).as_nanos();
                self.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
                if now < until {
                    connection.path = (connection.path + 1) % self.paths.len();
                    connection.ask(&self.requests)?;
                } else {
                    connection.has_right_digest(path);
                    running -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    fn ask(&mut self, requests: &[Vec<u8>]) -> io::Result<()> {
        let request = requests.get(self.path).map(Vec::as_slice).unwrap_or_default();
        self.received = 0;
        self.sent = Instant::now();
        // It always fits: the one before it was answered.
        let sent = self.stream.write(request)?;
        if sent < request.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Whether the answer is whole.
    fn receive(&mut self, path: &Wanted) -> io::Result<bool> {
        loop {
            let free = self.buffer.get_mut(self.received..).unwrap_or_default();
            let room = free.len();
            let more = match self.stream.read(free) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => more,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(err) => return Err(err),
            };
            self.received += more;
            if self.is_whole(path.length)? {
                return Ok(true);
            }
            if more < room {
                // Nothing more is there: the next event tells of it.
                return Ok(false);
            }
        }
    }

    fn is_whole(&mut self, length: usize) -> io::Result<bool> {
        let there = self.buffer.get(..self.received).unwrap_or_default();
        let as_before = there.get(..self.head).is_some_and(|head| head.ends_with(END_OF_HEAD));
        if as_before && there.starts_with(ANSWERED) && self.received == self.head + length {
            return Ok(true);
        }
        let Some((head, told)) = head(there)? else { return Ok(false) };
        assert_eq!(told, length, "an answer of another length");
        self.head = head;
        Ok(self.received == head + length)
    }

    fn has_right_digest(&self, path: &Wanted) {
        let body = self.buffer.get(self.head..self.received).unwrap_or_default();
        assert_eq!(Digest::of(Algorithm::Sha256, body).to_string(), path.digest, "{}", path.path);
    }
}

impl Wanted {
    fn request(&self, host: SocketAddr) -> Vec<u8> {
        let accept = self.accept.map(|accept| format!("Accept: {accept}\r\n")).unwrap_or_default();
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{accept}\r\n", self.path).into_bytes()
    }
}

/// Lengths of the head and of the body, if the head is there. The answer must be a 200.
pub(super) fn head(there: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = there.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else { return Ok(None) };
    let text = String::from_utf8_lossy(there.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length.and_then(|length| length.parse().ok()) {
        Some(length) if there.starts_with(ANSWERED) => Ok(Some((end + END_OF_HEAD.len(), length))),
        _ => Err(io::Error::other(format!("not a 200 with a length: {text}"))),
    }
}
