//! Sends requests to a running server, over its admin socket or the network.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use roadstead::config::Config;
use roadstead::server::ServerSettings;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use url::Url;

use super::Request;
pub(in crate::cli) use super::connection::{Answer, Upload};
use super::connection::{Head, exchange};
use crate::cli::output::failed;

/// Longest silence of the server.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Largest JSON answer, in bytes.
const LONGEST_ANSWER: u64 = 256 * 1024 * 1024;
/// Largest token, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// A running server.
#[derive(Debug)]
pub(in crate::cli) enum Server {
    Socket(PathBuf),
    Network { url: Url, token: Option<String> },
}

impl Answer {
    /// The body, as far as it can be read.
    pub(in crate::cli) fn text(self) -> String {
        let mut text = String::new();
        let _as_far_as_it_goes = self.body.take(LONGEST_ANSWER).read_to_string(&mut text);
        text
    }

    pub(in crate::cli) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Why the server refused.
    pub(in crate::cli) fn refusal(self) -> String {
        let status = self.status;
        let text = self.text();
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let message = value.as_ref().and_then(|value| value.pointer("/error/message")).and_then(Value::as_str);
        message.map_or_else(|| format!("the server answers {status}: {}", text.trim()), str::to_owned)
    }
}

impl Server {
    /// The one behind a socket; `None` if none runs.
    pub(in crate::cli) fn behind(socket: &Path) -> io::Result<Option<Self>> {
        Ok(open_socket(socket, TIMEOUT)?.map(|_answers| Self::Socket(socket.to_owned())))
    }

    /// The one at a URL. The error says what is wrong with what was given.
    pub(in crate::cli) fn at(url: &str, token_file: Option<&Path>) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|err| format!("--server: {err}"))?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain || url.fragment().is_some() {
            return Err("--server is `http://` or `https://`, a host and perhaps a port and a path, and nothing else"
                .to_owned());
        }
        let token = token_file.map(read_token).transpose()?;
        Ok(Self::Network { url, token })
    }

    /// The name of the server for a message.
    pub(in crate::cli) fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Network { url, .. } => url.to_string(),
        }
    }

    /// Sends a request. Whatever the answer is, it is given back. Prints a failure.
    pub(in crate::cli) fn ask(&self, method: &str, path: &str, upload: Upload<'_>) -> Result<Answer, ExitCode> {
        self.exchange(method, path, upload)
            .map_err(|err| failed(&format!("the server cannot be asked at {}: {err}", self.name())))
    }

    /// The JSON of an answer. Prints a failure, or the server's error.
    pub(in crate::cli) fn json(&self, request: Request<'_>) -> Result<Value, ExitCode> {
        let Request { method, path, body } = request;
        let upload = body.map_or(Upload::Nothing, |body| Upload::Json(body.to_string().into_bytes()));
        let answer = self.ask(method, path, upload)?;
        if !answer.is_success() {
            return Err(failed(&answer.refusal()));
        }
        let text = answer.text();
        serde_json::from_str(&text).map_err(|err| failed(&format!("the answer of {} is no JSON: {err}", self.name())))
    }

    /// The text of what is at a path, or why there is none. Prints nothing.
    pub(in crate::cli) fn try_text(&self, path: &str) -> Result<String, String> {
        let answer = self.exchange("GET", path, Upload::Nothing);
        let answer = answer.map_err(|err| format!("it cannot be asked at {}: {err}", self.name()))?;
        if answer.is_success() { Ok(answer.text()) } else { Err(answer.refusal()) }
    }

    /// All bytes of what is at a path. Prints a failure, or the server's error.
    pub(in crate::cli) fn bytes(&self, path: &str) -> Result<Vec<u8>, ExitCode> {
        let mut answer = self.ask("GET", path, Upload::Nothing)?;
        if !answer.is_success() {
            return Err(failed(&answer.refusal()));
        }
        let mut bytes = Vec::new();
        answer.body.read_to_end(&mut bytes).map_err(|err| failed(&format!("the answer was cut short: {err}")))?;
        Ok(bytes)
    }

    fn exchange(&self, method: &str, path: &str, upload: Upload<'_>) -> io::Result<Answer> {
        match self {
            Self::Socket(socket) => {
                let stream = open_socket(socket, TIMEOUT)?.ok_or(io::ErrorKind::ConnectionRefused)?;
                exchange(stream, &Head { method, path, host: "localhost", token: None }, upload)
            }
            Self::Network { url, token } => {
                let stream = dial(url)?;
                if url.scheme() == "http" {
                    return exchange_at(url, stream, method, path, token.as_deref(), upload);
                }
                let stream = StreamOwned::new(tls(url, &[])?, stream);
                exchange_at(url, stream, method, path, token.as_deref(), upload)
            }
        }
    }
}

/// One exchange with the server at a URL, over a connection that leads there. `path` is below the path of the URL.
fn exchange_at<S: Read + Write + 'static>(
    url: &Url,
    stream: S,
    method: &str,
    path: &str,
    token: Option<&str>,
    upload: Upload<'_>,
) -> io::Result<Answer> {
    let path = format!("{}{path}", url.path().trim_end_matches('/'));
    exchange(stream, &Head { method, path: &path, host: &authority(url), token }, upload)
}

/// A GET without a login of what is below a URL, over a connection that leads there.
pub(in crate::cli) fn get<S: Read + Write + 'static>(url: &Url, stream: S, path: &str) -> io::Result<Answer> {
    exchange_at(url, stream, "GET", path, None, Upload::Nothing)
}

/// Host and port of a URL, as `Host` and files of clients have them.
pub(in crate::cli) fn authority(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// Does not follow what is no token, as a wrong file.
fn read_token(file: &Path) -> Result<String, String> {
    let wrong = |why: &str| format!("--token-file {}: {why}", file.display());
    let mut text = String::new();
    let open = std::fs::File::open(file).map_err(|err| wrong(&err.to_string()))?;
    open.take(LONGEST_TOKEN).read_to_string(&mut text).map_err(|err| wrong(&err.to_string()))?;
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if is_token { Ok(token.to_owned()) } else { Err(wrong("it holds no token")) }
}

fn dial(url: &Url) -> io::Result<TcpStream> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(err) => failure = err,
        }
    }
    Err(failure)
}

/// A session with the server at a URL, which the system or `ca` has to vouch for.
pub(in crate::cli) fn tls(url: &Url, ca: &[CertificateDer<'static>]) -> io::Result<ClientConnection> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = roadstead::upstream::system_trust(ca).map_err(io::Error::other)?;
    ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)
}

/// Sends a request to the running server; `None` if none runs. Prints a failure.
pub(in crate::cli) fn ask_server(config: &Config, method: &str, path: &str) -> Result<Option<Answer>, ExitCode> {
    let Some(socket) = &config.server.admin_socket else { return Ok(None) };
    ask_socket(socket, method, path, TIMEOUT)
        .map_err(|err| failed(&format!("the server cannot be asked at {}: {err}", socket.display())))
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
            exchange(stream, &Head { method: "GET", path, host: "localhost", token: None }, Upload::Nothing)
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
    let Some(stream) = open_socket(socket, patience)? else { return Ok(None) };
    exchange(stream, &Head { method, path, host: "localhost", token: None }, Upload::Nothing).map(Some)
}

fn open_socket(socket: &Path, patience: Duration) -> io::Result<Option<UnixStream>> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(Some(stream))
}
