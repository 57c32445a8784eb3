//! A slow line: a TCP relay that lets through so many bytes a second, and counts them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const CHUNK: usize = 16 * 1024;

/// Relays connections on a port of its own to another port.
pub(crate) struct Throttle {
    pub(crate) port: u16,
    line: Arc<Line>,
}

struct Line {
    target: u16,
    /// The time of one chunk. One connection at a time holds it: they share the line.
    chunk_time: Mutex<Duration>,
    passed: AtomicU64,
    closed: AtomicBool,
}

impl Throttle {
    /// Lets `bytes_per_second` through from the server at `target`, over all connections together.
    pub(crate) fn start(target: u16, bytes_per_second: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let chunk = u32::try_from(CHUNK).expect("a chunk is small");
        let line = Arc::new(Line {
            target,
            chunk_time: Mutex::new(Duration::from_secs(chunk.into()) / bytes_per_second),
            passed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&line);
        thread::spawn(move || accepting.accept(&listener));
        Self { port, line }
    }

    /// Takes the limit away.
    pub(crate) fn lift(&self) {
        *self.line.chunk_time.lock().expect("no thread panics with the line") = Duration::ZERO;
    }

    /// Bytes that the server has sent so far.
    pub(crate) fn passed(&self) -> u64 {
        self.line.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.line.closed.store(true, Ordering::Relaxed);
        // The accepting thread looks at `closed` when a connection comes.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Line {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            let line = Arc::clone(self);
            // A connection that breaks is what the stories are about, not a failure of the relay.
            thread::spawn(move || line.relay(&client).ok());
        }
    }

    fn relay(self: &Arc<Self>, client: &TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.target))?;
        let (mut requests, mut to_server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            drop(io::copy(&mut requests, &mut to_server));
            to_server.shutdown(Shutdown::Both)
        });
        let ended = self.answers(&server, client);
        client.shutdown(Shutdown::Both)?;
        ended
    }

    fn answers(&self, mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = server.read(&mut chunk)?;
            let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
                return Ok(());
            };
            let chunk_time = self.chunk_time.lock().expect("no thread panics with the line");
            thread::park_timeout(*chunk_time);
            drop(chunk_time);
            client.write_all(read)?;
            self.passed.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}
