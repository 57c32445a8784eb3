//! Sends requests to the running server over its admin socket.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest silence of the server.
const PATIENCE: Duration = Duration::from_mins(1);
/// Largest head of an answer, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;

/// An answer with its unread body, which lasts to the end of the connection.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: BufReader<UnixStream>,
}

/// Sends one request. `None` if no server listens on `socket`.
pub(super) fn send(socket: &Path, method: &str, path: &str) -> io::Result<Option<Answer>> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In HTTP/1.0 a body ends with its connection, so there are no chunks to decode.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: roadstead\r\n\r\n")?;
    let mut body = BufReader::new(stream);
    let mut head = body.by_ref().take(LONGEST_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))?;
    while line.trim() != "" {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(Answer { status, body }))
}
