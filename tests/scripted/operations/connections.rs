//! A bound on connections, which leaves the admin side alone.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tls::{client_of, write_identity};
use crate::support::client::{Client, raw};
use crate::support::eventually;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const REQUEST: &str = "GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A keep-alive connection that has been answered.
async fn idle(mirror: &Mirror) -> TcpStream {
    let mut client = TcpStream::connect(mirror.address).await.unwrap();
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    client
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_to_come_back_and_the_admin_side_answers() {
    let registry = Upstream::start().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mirror = Mirror::builder(toml).server("max_connections = 20").start().await;
    let mut held = Vec::new();
    for _place in 0..20 {
        held.push(idle(&mirror).await);
    }
    for _more in 0..3 {
        let answer = raw(mirror.address, REQUEST).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1\r\n"), "{answer}");
        let (_head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("max_connections"), "{body}");
    }
    assert_eq!(Client::new(mirror.admin).get("/livez").await.status, 200);
    assert_eq!(mirror.metric("roadstead_connections_refused_total"), 3.0);
    // Those that have a place keep it.
    held[0].write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(held[0].read(&mut [0; 1024]).await.unwrap() > 0);
    held.pop();
    let is_taken = async || mirror.client().get("/v2/").await.status == 200;
    eventually("a place that is given back is taken", is_taken).await;
}

#[tokio::test]
async fn the_limit_holds_over_all_listeners_and_closes_what_would_speak_tls() {
    let (ca, directory) = (TestCa::new(), tempfile::tempdir().unwrap());
    let registry = Upstream::start().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let tls = write_identity(&ca, directory.path(), "server");
    let server = format!("max_connections = 2\n[[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{tls}\n");
    let mirror = Mirror::builder(toml).server(&server).start().await;
    let secure = mirror.addresses()[1];
    let _held = (idle(&mirror).await, idle(&mirror).await);
    assert!(client_of(&ca, secure).try_get("/v2/").await.is_err());
    assert_eq!(mirror.metric("roadstead_connections_refused_total"), 1.0);
}
