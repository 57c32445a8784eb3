//! The mirror as a client's machine sees it: name, connection, certificate, answer, clock, and whether a client here uses it.

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

use roadstead::clock::Clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConnection, StreamOwned};
use url::Url;

use super::certificate;
use super::finding::Findings;
use crate::cli::reach::server::{self, Answer};

const PATIENCE: Duration = Duration::from_secs(5);
const API: &str = "/v2/";
const SLOW: Duration = Duration::from_millis(200);
const MAX_SKEW: Duration = Duration::from_mins(1);
/// Where clients of this machine say which mirror they use.
const CLIENT_FILES: [&str; 8] = [
    "/etc/containerd/certs.d",
    "/etc/docker/daemon.json",
    "/etc/docker/certs.d",
    "/etc/containers/registries.conf",
    "/etc/containers/registries.conf.d",
    "/etc/rancher/k3s/registries.yaml",
    "/etc/rancher/rke2/registries.yaml",
    "/etc/buildkit/buildkitd.toml",
];

/// An error is one of the command line.
pub(super) fn look(mirror: &str, ca: Option<&Path>, findings: &mut Findings) -> Result<(), String> {
    let url: Url = mirror.parse().map_err(|err| format!("--mirror: {err}; it is as in http://mirror.corp:5000"))?;
    let is_tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err("--mirror begins with neither http:// nor https://".to_owned()),
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("--mirror names no host".to_owned());
    };
    let ca = ca.map_or_else(|| Ok(Vec::new()), read_ca)?;
    if let Some(address) = find(host, port, findings)
        && let Some(stream) = connect(address, findings)
    {
        let started = Instant::now();
        if !is_tls {
            judge(server::get(&url, stream, API), started, findings);
        } else if let Some(stream) = shake_hands(stream, &url, &ca, findings) {
            let started = Instant::now();
            judge(server::get(&url, stream, API), started, findings);
        }
    }
    let address = server::authority(&url);
    clients(&address, mirror, findings);
    Ok(())
}

fn find(host: &str, port: u16, findings: &mut Findings) -> Option<SocketAddr> {
    let started = Instant::now();
    match (host.trim_matches(['[', ']']), port).to_socket_addrs().map(|mut all| all.next()) {
        Ok(Some(address)) => {
            findings.good("name", format!("{host} is {} ({} ms)", address.ip(), started.elapsed().as_millis()));
            Some(address)
        }
        Ok(None) => {
            findings.bad("name", format!("{host} has no address"), "look at DNS, or at /etc/hosts");
            None
        }
        Err(err) => {
            findings.bad("name", format!("{host}: {err}"), "look at DNS, or at /etc/hosts");
            None
        }
    }
}

fn connect(address: SocketAddr, findings: &mut Findings) -> Option<TcpStream> {
    let started = Instant::now();
    let connected = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    match connected {
        Ok(stream) => {
            findings.good("connection", format!("{address} accepts it ({} ms)", started.elapsed().as_millis()));
            Some(stream)
        }
        Err(err) => {
            findings.bad(
                "connection",
                format!("{address}: {err}"),
                "is the mirror up, does server.listen name more than loopback, and is the port open in firewalls?",
            );
            None
        }
    }
}

fn read_ca(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let listed = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    listed.map_err(|err| format!("--ca {}: {err}", file.display()))
}

/// Takes the certificate of the mirror, or tells why not.
fn shake_hands(
    mut stream: TcpStream,
    url: &Url,
    ca: &[CertificateDer<'static>],
    findings: &mut Findings,
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    const ABOUT: &str = "certificate";
    let shaken = server::tls(url, ca).and_then(|mut session| {
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(session)
    });
    match shaken {
        Ok(session) => {
            if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
                certificate::look(ABOUT, certificate, findings);
            }
            Some(StreamOwned::new(session, stream))
        }
        Err(err) => {
            findings.bad(
                ABOUT,
                format!("it is not accepted: {err}"),
                "name its authority with --ca, and with client-config --ca; its names must have the one in the URL",
            );
            None
        }
    }
}

fn judge(answer: io::Result<Answer>, started: Instant, findings: &mut Findings) {
    const ABOUT: &str = "mirror";
    let answer = match answer {
        Ok(answer) => answer,
        Err(err) => {
            findings.bad(
                ABOUT,
                err.to_string(),
                "is it http:// or https://? Else look at the mirror's own log, and at what is in between",
            );
            return;
        }
    };
    let (Answer { status, date, .. }, took) = (answer, started.elapsed());
    let millis = took.as_millis();
    match status {
        200 if took > SLOW => findings.doubt(
            ABOUT,
            format!("/v2/ is answered after {millis} ms"),
            "pulls wait as long for each question: is the mirror far away, or busy?",
        ),
        200 => findings.good(ABOUT, format!("/v2/ is answered after {millis} ms")),
        401 => findings.good(ABOUT, format!("/v2/ is answered after {millis} ms, and asks clients to sign in (401)")),
        421 => findings.bad(ABOUT, "it does not know itself by this name (421)", "add the name to server.hostnames"),
        503 => findings.bad(ABOUT, "it has too many requests, or shuts down (503)", "on its machine: roadstead doctor"),
        status => findings.bad(
            ABOUT,
            format!("/v2/ is answered with {status}"),
            "is this Roadstead, and is the path of the URL a mount of it?",
        ),
    }
    let Some(date) = date.and_then(|date| httpdate::parse_http_date(&date).ok()) else { return };
    let there = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let skew = there.abs_diff(Duration::from_millis(Clock::default().now().as_millis()));
    if skew > MAX_SKEW {
        findings.doubt(
            "clock",
            format!("here and at the mirror differ by {} s", skew.as_secs()),
            "tokens and certificates fail by that: let both ask a time server",
        );
    } else {
        findings.good("clock", "the same here as at the mirror");
    }
}

/// Whether anything here names the mirror.
fn clients(address: &str, mirror: &str, findings: &mut Findings) {
    let naming: Vec<_> =
        CLIENT_FILES.iter().flat_map(|path| files(Path::new(path), 2)).filter(|file| names(file, address)).collect();
    if naming.is_empty() {
        findings.doubt(
            "clients",
            format!("no file of a client here names {address}"),
            format!("roadstead client-config CLIENT --mirror {mirror} --write /"),
        );
        return;
    }
    for file in naming {
        findings.good("clients", format!("{} names it", file.display()));
    }
    let config = std::fs::read_to_string("/etc/containerd/config.toml").unwrap_or_default();
    if Path::new("/etc/containerd/certs.d").is_dir() && !config.contains("config_path") {
        findings.doubt(
            "clients",
            "/etc/containerd/config.toml has no config_path: Kubernetes on this containerd does not read certs.d",
            "roadstead client-config containerd sets it; restart containerd then",
        );
    }
}

/// The file, or those below the folder.
fn files(path: &Path, depth: u32) -> Vec<std::path::PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    if depth == 0 {
        return Vec::new();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.flat_map(|entry| files(&entry.path(), depth - 1)).collect()
}

fn names(file: &Path, address: &str) -> bool {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(1024 * 1024).read_to_string(&mut text));
    let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    read.is_ok()
        && text.match_indices(address).any(|(at, _)| {
            let (before, behind) = (text.get(..at), text.get(at + address.len()..));
            !is_inside(before.and_then(|text| text.chars().last()))
                && !is_inside(behind.and_then(|text| text.chars().next()))
        })
}
