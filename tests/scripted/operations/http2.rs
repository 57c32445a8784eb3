//! HTTP/2, for clients that speak nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::write_identity;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// A window that a client gives each stream.
const WINDOW: u32 = 65_535;

async fn connect(ca: &TestCa, address: SocketAddr, protocols: &[&str]) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(ca.roots()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn client(ca: &TestCa, address: SocketAddr) -> SendRequest<Bytes> {
    client_with(ca, address, WINDOW).await
}

async fn client_with(ca: &TestCa, address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let stream = connect(ca, address, &["h2"]).await;
    let mut builder = h2::client::Builder::new();
    // The connection's window is never what a stream waits for.
    builder.initial_window_size(window).initial_connection_window_size(64 * 1024 * 1024);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The beginning of an answer, with status 200.
async fn open(client: &SendRequest<Bytes>, path: &str) -> RecvStream {
    let mut client = client.clone().ready().await.unwrap();
    let request = http::Request::get(format!("https://localhost{path}")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    answer.into_body()
}

/// All bytes until the end, or the reset. With `takes`, the window is opened again for what was read.
async fn read(body: &mut RecvStream, takes: bool) -> (Vec<u8>, Option<Reason>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        match chunk {
            Ok(chunk) => {
                bytes.extend_from_slice(&chunk);
                if takes {
                    body.flow_control().release_capacity(chunk.len()).unwrap();
                }
            }
            Err(err) => return (bytes, err.reason()),
        }
    }
    (bytes, None)
}

async fn serving(ca: &TestCa, server: &str) -> (Upstream, Mirror, String, tempfile::TempDir) {
    let registry = Upstream::start().await;
    let digest = registry.blob("org/app", blob(8 * 1024 * 1024, 1));
    let directory = tempfile::tempdir().unwrap();
    let lines = write_identity(ca, directory.path(), "server");
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mirror = Mirror::builder(toml).server(&format!("{server}\n{lines}")).start().await;
    (registry, mirror, format!("/v2/org/app/blobs/{digest}"), directory)
}

#[tokio::test]
async fn http2_is_spoken_with_who_speaks_nothing_else() {
    let ca = TestCa::new();
    let (_registry, mirror, path, _directory) = serving(&ca, "").await;
    let both = connect(&ca, mirror.address, &["h2", "http/1.1"]).await;
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let client = client(&ca, mirror.address).await;
    for _cold_and_warm in 0..2 {
        let (body, cut) = read(&mut open(&client, &path).await, true).await;
        assert_eq!((cut, sha256(&body)), (None, path[18..].to_owned()));
    }
}

/// Its body is not asked for more while the window is closed, and so cannot notice.
#[tokio::test]
async fn t34_a_stream_whose_client_takes_nothing_is_reset_and_no_other() {
    let ca = TestCa::new();
    let (_registry, mirror, path, _directory) = serving(&ca, "stall_timeout = \"300ms\"\nmax_requests = 2").await;
    let client = client(&ca, mirror.address).await;
    let mut stalled = open(&client, &path).await;
    // The other goes on, and has more after it.
    while mirror.metric("roadstead_requests_in_flight") > 0.0 {
        let (body, cut) = read(&mut open(&client, &path).await, true).await;
        assert_eq!((cut, sha256(&body)), (None, path[18..].to_owned()));
    }
    let (got, cut) = read(&mut stalled, false).await;
    assert_eq!((got.len(), cut), (WINDOW as usize, Some(Reason::CANCEL)));
    // Both places are free again.
    let _two = (open(&client, &path).await, open(&client, &path).await);
}

/// A small body is handed over whole, and its task ends before the client has taken it.
#[tokio::test]
async fn t34_a_small_answer_that_nobody_takes_keeps_its_place_until_it_is_reset() {
    let ca = TestCa::new();
    let (registry, mirror, path, _directory) = serving(&ca, "stall_timeout = \"100ms\"\nmax_requests = 2").await;
    let small = format!("/v2/org/app/blobs/{}", registry.blob("org/app", blob(20_000, 2)));
    let client = client_with(&ca, mirror.address, 1).await;
    for path in [&small, &path] {
        let mut stalled = open(&client, path).await;
        assert!(mirror.metric("roadstead_requests_in_flight") >= 1.0, "it is being answered");
        let (got, cut) = read(&mut stalled, false).await;
        assert_eq!((got.len(), cut), (1, Some(Reason::CANCEL)));
    }
}

/// A chunk of the body lasts for longer than the limit.
#[tokio::test]
async fn a_slow_client_that_takes_something_all_the_time_is_not_reset() {
    let ca = TestCa::new();
    let (_registry, mirror, path, _directory) = serving(&ca, "stall_timeout = \"400ms\"").await;
    let client = client_with(&ca, mirror.address, 500).await;
    let mut body = open(&client, &path).await;
    for _window in 0..10 {
        let chunk = body.data().await.unwrap().expect("it is not cut");
        // All pauses together are longer than the limit, and none comes near it.
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        body.flow_control().release_capacity(chunk.len()).unwrap();
    }
}

#[tokio::test]
async fn t67_streams_of_one_client_leave_places_to_others_and_have_to_move_where_few_are_left() {
    let ca = TestCa::new();
    let (_registry, mirror, path, _directory) = serving(&ca, "stall_timeout = \"10m\"\nmax_requests = 4").await;
    let client = client(&ca, mirror.address).await;
    let mut stalled = [open(&client, &path).await, open(&client, &path).await, open(&client, &path).await];
    let mut fourth = client.clone().ready().await.unwrap();
    let request = http::Request::get(format!("https://localhost{path}")).body(()).unwrap();
    let refused = fourth.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    let other = crate::support::client::Client::tls(mirror.address, &ca);
    assert_eq!(other.get(&path).await.status, 200);
    let [first, second, third] = &mut stalled;
    let (_, cut) = tokio::select! {
        read = read(first, false) => read,
        read = read(second, false) => read,
        read = read(third, false) => read,
    };
    assert_eq!(cut, Some(Reason::CANCEL));
    let _place = open(&client, &path).await;
}

#[tokio::test]
async fn t124_who_takes_a_little_all_the_time_has_to_move_where_few_places_are_left() {
    let ca = TestCa::new();
    let (_registry, mirror, path, _directory) = serving(&ca, "stall_timeout = \"10m\"\nmax_requests = 4").await;
    let client = client_with(&ca, mirror.address, 500).await;
    let trickle = async || {
        let mut body = open(&client, &path).await;
        loop {
            match body.data().await {
                Some(Ok(chunk)) => {
                    // The pace of a client that keeps its place with little.
                    for part in chunk.chunks(100) {
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                        body.flow_control().release_capacity(part.len()).unwrap();
                    }
                }
                Some(Err(err)) => return err.reason(),
                None => return None,
            }
        }
    };
    let first = async {
        tokio::select! {
            cut = trickle() => cut,
            cut = trickle() => cut,
            cut = trickle() => cut,
        }
    };
    let cut = tokio::time::timeout(PATIENCE, first).await.expect("a place is given back");
    assert_eq!(cut, Some(Reason::CANCEL));
}
