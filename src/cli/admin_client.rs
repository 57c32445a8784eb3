//! Sends requests to the running server over its admin socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use roadstead::config::Config;
use serde_json::Value;

use super::output::failed;

/// Longest silence of the server.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest head of an answer, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
/// Largest JSON answer, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// An answer with its unread body, which lasts to the end of the connection.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: BufReader<UnixStream>,
}

/// Sends a request to the running server; `None` if none runs. Prints a failure.
pub(super) fn ask_server(config: &Config, method: &str, path: &str) -> Result<Option<Answer>, ExitCode> {
    let Some(socket) = &config.server.admin_socket else { return Ok(None) };
    send(socket, method, path)
        .map_err(|err| failed(&format!("the server cannot be asked at {}: {err}", socket.display())))
}

/// The JSON answer of the running server; `None` if none runs. Prints a failure, or the server's error.
pub(super) fn ask_api(config: &Config, method: &str, path: &str) -> Result<Option<Value>, ExitCode> {
    let Some(answer) = ask_server(config, method, path)? else { return Ok(None) };
    let mut text = String::new();
    let read = answer.body.take(LONGEST_ANSWER).read_to_string(&mut text);
    let value: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    match (answer.status, value) {
        (200..=299, Some(value)) => Ok(Some(value)),
        (status, value) => Err(match value.as_ref().and_then(|value| value.get("error")).and_then(Value::as_str) {
            Some(why) => failed(why),
            None => failed(&format!("the server answers {status}: {}", text.trim())),
        }),
    }
}

fn send(socket: &Path, method: &str, path: &str) -> io::Result<Option<Answer>> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
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
