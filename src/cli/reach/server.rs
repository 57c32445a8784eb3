//! Sends requests to the running server over its admin socket.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use roadstead::config::Config;
use roadstead::server::ServerSettings;
use serde_json::Value;

use crate::cli::output::failed;

/// Longest silence of the server.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest head of an answer, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
/// Largest JSON answer, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// An answer with its unread body, which lasts to the end of the connection.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: u16,
    pub(in crate::cli) body: Box<dyn Read>,
}

impl Answer {
    /// The body, as far as it can be read.
    pub(in crate::cli) fn text(self) -> String {
        let mut text = String::new();
        let _as_far_as_it_goes = self.body.take(LONGEST_ANSWER).read_to_string(&mut text);
        text
    }
}

/// Sends a request to the running server; `None` if none runs. Prints a failure.
pub(in crate::cli) fn ask_server(config: &Config, method: &str, path: &str) -> Result<Option<Answer>, ExitCode> {
    let Some(socket) = &config.server.admin_socket else { return Ok(None) };
    ask_socket(socket, method, path, TIMEOUT)
        .map_err(|err| failed(&format!("the server cannot be asked at {}: {err}", socket.display())))
}

/// The JSON answer of the running server; `None` if none runs. Prints a failure, or the server's error.
pub(in crate::cli) fn ask_api(config: &Config, method: &str, path: &str) -> Result<Option<Value>, ExitCode> {
    let Some(answer) = ask_server(config, method, path)? else { return Ok(None) };
    let status = answer.status;
    let text = answer.text();
    let value: Option<Value> = serde_json::from_str(&text).ok();
    match (status, value) {
        (200..=299, Some(value)) => Ok(Some(value)),
        (status, value) => Err(match value.as_ref().and_then(|value| value.get("error")).and_then(Value::as_str) {
            Some(why) => failed(why),
            None => failed(&format!("the server answers {status}: {}", text.trim())),
        }),
    }
}

/// A GET of the running server, over its socket, else at its admin address. Prints a failure.
pub(in crate::cli) fn ask_anywhere(
    server: &ServerSettings,
    path: &str,
    patience: Duration,
) -> Result<Answer, ExitCode> {
    let mut failures = Vec::new();
    if let Some(socket) = &server.admin_socket {
        match ask_socket(socket, "GET", path, patience) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => failures.push(format!("no server answers at {}", socket.display())),
            Err(err) => failures.push(format!("{}: {err}", socket.display())),
        }
    }
    if let Some(address) = server.admin_listen.map(dialled) {
        let asked = TcpStream::connect_timeout(&address, patience).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            exchange(stream, "GET", path)
        });
        match asked {
            Ok(answer) => return Ok(answer),
            Err(err) => failures.push(format!("http://{address}: {err}")),
        }
    }
    if failures.is_empty() {
        failures.push("`server.admin_socket` and `server.admin_listen` are off: there is nobody to ask".to_owned());
    }
    Err(failed(&failures.join("; ")))
}

/// Where an address that is listened on is reached from here.
fn dialled(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask_socket(socket: &Path, method: &str, path: &str, patience: Duration) -> io::Result<Option<Answer>> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    exchange(stream, method, path).map(Some)
}

fn exchange(mut stream: impl Read + Write + 'static, method: &str, path: &str) -> io::Result<Answer> {
    // In HTTP/1.0 a body ends with its connection, so there are no chunks to decode.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
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
    Ok(Answer { status, body: Box::new(body) })
}
