//! One HTTP/1.1 connection, kept alive. It costs little, so that what is measured is the server.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 256 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

pub(crate) struct Client {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Box<[u8]>,
    /// What was received and not yet taken is `buffer[taken..received]`.
    taken: usize,
    received: usize,
    /// Bytes of the answer's body that were not taken yet.
    left: u64,
}

/// An answer's first part.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Length of the body in bytes.
    pub(crate) length: u64,
    text: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { stream, host: to, buffer, taken: 0, received: 0, left: 0 })
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Head> {
        self.send("GET", path, "", &[]).await
    }

    /// Sends a request with these header lines, each with its line end, and waits for the head of the answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, lines: &str, body: &[u8]) -> io::Result<Head> {
        assert_eq!(self.left, 0, "the answer before this one was not read");
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{length}{lines}\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await?;
        let head = self.head().await?;
        self.left = head.length;
        Ok(head)
    }

    /// The next bytes of the body, as many as there are; nothing at its end.
    pub(crate) async fn piece(&mut self) -> io::Result<Option<&[u8]>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.taken == self.received {
            (self.taken, self.received) = (0, 0);
            self.receive().await?;
        }
        let length = (self.received - self.taken).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let from = self.taken;
        self.taken += length;
        self.left -= length as u64;
        Ok(self.buffer.get(from..self.taken))
    }

    pub(crate) async fn text(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            text.extend_from_slice(piece);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Reads the body and forgets it.
    pub(crate) async fn discard(&mut self) -> io::Result<()> {
        while self.piece().await?.is_some() {}
        Ok(())
    }

    async fn head(&mut self) -> io::Result<Head> {
        self.buffer.copy_within(self.taken..self.received, 0);
        self.received -= self.taken;
        self.taken = 0;
        loop {
            let there = self.buffer.get(..self.received).unwrap_or_default();
            if let Some(end) = there.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) {
                let text = String::from_utf8_lossy(there.get(..end).unwrap_or_default()).into_owned();
                self.taken = end + END_OF_HEAD.len();
                return Head::parse(text);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        let free = self.buffer.get_mut(self.received..).unwrap_or_default();
        match self.stream.read(free).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended early")),
            more => {
                self.received += more;
                Ok(())
            }
        }
    }
}

impl Head {
    fn parse(text: String) -> io::Result<Self> {
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut head = Self { status: status.unwrap_or(0), length: 0, text };
        let length = match (head.status, head.header("content-length")) {
            (204 | 304, _) => Some(0),
            (_, Some(length)) => length.parse().ok(),
            (_, None) => None,
        };
        head.length = length.ok_or_else(|| io::Error::other(format!("an answer without a length: {}", head.text)))?;
        Ok(head)
    }
}
