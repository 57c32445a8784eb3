//! Connections to the admin side are bounded, and strangers that hold them keep nobody out.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::support::client::Client;
use crate::support::mirror::Mirror;
use crate::support::upstream::PATIENCE;

/// More than are open at one time.
const MANY: usize = 200;

#[tokio::test]
async fn t62_connections_to_the_admin_side_are_bounded_and_probes_are_answered_all_the_same() {
    let mirror = Mirror::start("").await;
    let mut held = Vec::new();
    for _stranger in 0..MANY {
        // It asks again and again, and reads no answer.
        let mut stranger = TcpStream::connect(mirror.admin).await.unwrap();
        stranger.write_all(&b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100)).await.unwrap();
        held.push(stranger);
    }
    for _probe in 0..10 {
        assert_eq!(Client::new(mirror.admin).get("/livez").await.status, 200);
    }
    // The oldest are cut: what they were sent comes to an end. One that is not cut ends by itself later than that.
    for stranger in held.iter_mut().take(MANY - 64) {
        let mut answers = Vec::new();
        let cut = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answers)).await;
        let _reset = cut.expect("the oldest are cut");
    }
}

/// Waits while too many wait to be accepted.
async fn connect(socket: &Path) -> UnixStream {
    let socket = socket.to_owned();
    let connecting = tokio::task::spawn_blocking(move || std::os::unix::net::UnixStream::connect(socket));
    let stream = connecting.await.unwrap().unwrap();
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

#[tokio::test]
async fn t62_connections_to_the_socket_are_bounded_too() {
    let mirror = Mirror::start("").await;
    let socket = mirror.storage().join("admin.sock");
    let mut held = Vec::new();
    for _command in 0..MANY {
        held.push(connect(&socket).await);
    }
    let mut last = connect(&socket).await;
    last.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("alive"), "{answer}");
    let read = tokio::time::timeout(PATIENCE, held[0].read(&mut [0; 16])).await.expect("the oldest is cut");
    assert!(read.is_err() || read.is_ok_and(|bytes| bytes == 0), "the oldest is cut");
}
