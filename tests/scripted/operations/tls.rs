//! TLS towards clients: from files, followed when they change.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// A certificate for loopback and its key, and the lines that name them.
pub(crate) fn write_identity(ca: &TestCa, directory: &Path, name: &str) -> String {
    let identity = ca.server(&["127.0.0.1", "localhost"]);
    let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&certificate, &identity.certificate).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    format!("tls = {{ certificate = \"{}\", key = \"{}\" }}", certificate.display(), key.display())
}

pub(crate) fn client_of(ca: &TestCa, address: SocketAddr) -> Client {
    Client::tls(address, ca)
}

#[tokio::test]
async fn a_client_that_comes_again_resumes_its_session() {
    let (ca, directory) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (_registry, mirror) = one(&ca, directory.path()).await;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let config = Arc::new(config);
    for want in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let stream = TcpStream::connect(mirror.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        // The tickets come before the answer.
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(want));
    }
}

/// The certificate that is served now.
async fn served(ca: &TestCa, address: SocketAddr) -> Option<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

async fn one(ca: &TestCa, directory: &Path) -> (Upstream, Mirror) {
    let registry = Upstream::start().await;
    let app = image(&[blob(300_000, 1)]);
    registry.publish("org/app", "1", &app);
    let lines = write_identity(ca, directory, "server");
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let builder = Mirror::builder(toml).server(&lines).look_for_certificates(Duration::from_millis(10));
    (registry, builder.start().await)
}

#[tokio::test]
async fn pulls_work_over_the_servers_own_tls() {
    let (ca, directory) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (_registry, mirror) = one(&ca, directory.path()).await;
    let client = client_of(&ca, mirror.address);
    assert_eq!(client.get("/v2/").await.status, 200);
    let manifest = client.get("/v2/org/app/manifests/1").await;
    let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    for _cold_and_warm in 0..2 {
        assert_eq!(sha256(&client.get(&format!("/v2/org/app/blobs/{layer}")).await.body), layer);
    }
    assert!(client_of(&TestCa::new(), mirror.address).try_get("/v2/").await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_served_as_soon_as_its_files_are_a_pair() {
    let (log, ca, directory) = (Log::begin(), TestCa::new(), tempfile::tempdir().unwrap());
    let (_registry, mirror) = one(&ca, directory.path()).await;
    let old = served(&ca, mirror.address).await.unwrap();
    let next = ca.server(&["localhost", "127.0.0.1"]);
    // Half of the pair, then half of a file: the old one stays.
    let half_of_the_key = &next.key[..next.key.len() / 2];
    for (file, content, complaint) in [
        ("server.pem", next.certificate.as_str(), "do not belong together"),
        ("server.key", half_of_the_key, "server.key: "),
    ] {
        std::fs::write(directory.path().join(file), content).unwrap();
        eventually("the files are read, and refused", async || log.text().contains(complaint)).await;
        assert_eq!(served(&ca, mirror.address).await.unwrap(), old);
    }
    std::fs::write(directory.path().join("server.key"), &next.key).unwrap();
    let is_new = async || served(&ca, mirror.address).await.unwrap() != old;
    eventually("the new certificate is served", is_new).await;
}

#[tokio::test]
async fn t34_clients_that_never_finish_a_handshake_hold_up_nobody() {
    let (ca, directory) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (_registry, mirror) = one(&ca, directory.path()).await;
    let mut stalled = Vec::new();
    for _client in 0..300 {
        stalled.push(TcpStream::connect(mirror.address).await.unwrap());
    }
    assert_eq!(client_of(&ca, mirror.address).get("/v2/org/app/manifests/1").await.status, 200);
    // Nor do they hold up the end: `stop` has 5 s, and panics of its own if handshakes outlive the listener.
    mirror.stop().await;
    drop(stalled);
}

#[tokio::test]
async fn t34_plain_connections_that_say_nothing_hold_up_nobody() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let mut silent = Vec::new();
    for _client in 0..300 {
        silent.push(TcpStream::connect(mirror.address).await.unwrap());
    }
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
}
