//! Stored bytes on their way out of a plain connection: in order, exactly, and counted as they leave.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{counted, eventually, in_flight, open, path_of, quiet, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// More than the sockets' buffers take, so that most of a body is still to be sent.
const LARGE: u64 = 64 * 1024 * 1024;

/// A mirror that holds a blob of so many bytes.
async fn holding(size: u64, server: &str) -> (Upstream, Mirror, Content, String) {
    let upstream = Upstream::start().await;
    let content = blob(size, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::builder(super::one(&upstream, "")).server(server).start().await;
    mirror.client().get(&path_of(&digest)).await;
    quiet(&mirror).await;
    (upstream, mirror, content, digest)
}

/// A connection on which the blob has been asked for.
async fn asking(mirror: &Mirror, digest: &str) -> TcpStream {
    let mut client = TcpStream::connect(mirror.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", path_of(digest));
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// One answer's status and body, from a connection that goes on.
async fn answer(client: &mut TcpStream, has_body: bool) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; if has_body { length.unwrap_or(0) } else { 0 }];
    client.read_exact(&mut body).await.unwrap();
    (head[9..12].to_owned(), body)
}

#[tokio::test]
async fn answers_on_one_connection_come_in_order_and_whole() {
    let (_upstream, mirror, content, digest) = holding(3_000_000, "").await;
    let asked = [
        ("GET", "", "200", 0..3_000_000),
        ("GET", "range: bytes=5-2000004\r\n", "206", 5..2_000_005),
        ("HEAD", "", "200", 0..0),
        ("GET", "range: bytes=-1\r\n", "206", 2_999_999..3_000_000),
        ("GET", "if-none-match: *\r\n", "304", 0..0),
        ("GET", "range: bytes=1000000-\r\n", "206", 1_000_000..3_000_000),
    ];
    let mut requests = String::new();
    for (method, header, ..) in &asked {
        for part in [method, " ", &path_of(&digest), " HTTP/1.1\r\nhost: localhost\r\n", header, "\r\n"] {
            requests.push_str(part);
        }
    }
    let mut client = TcpStream::connect(mirror.address).await.unwrap();
    // All at once, twice: none waits for the answer to the one before it.
    client.write_all(requests.repeat(2).as_bytes()).await.unwrap();
    for (method, header, status, range) in asked.iter().chain(&asked) {
        let has_body = *method == "GET" && *status != "304";
        let (got, body) = answer(&mut client, has_body).await;
        assert_eq!(got, *status, "{method} {header}");
        assert!(body == content.slice(range.start, range.end), "{method} {header}: {} bytes", body.len());
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_hit_is_counted_with_what_it_took() {
    let (_upstream, mirror, _content, digest) = holding(LARGE, "").await;
    let served = || counted(&mirror, r#"roadstead_served_bytes_total{authority="docker.io"}"#);
    let before = served();
    let mut response = open(&mirror.client(), &path_of(&digest)).await;
    take(&mut response, 100_000).await;
    drop(response);
    eventually("the client is gone", async || in_flight(&mirror) == 0).await;
    let took = served() - before;
    assert!((100_000..LARGE).contains(&took), "{took}");
}

#[tokio::test]
async fn a_request_lasts_until_its_last_byte_is_sent() {
    let (_upstream, mirror, content, digest) = holding(LARGE, "max_requests = 1").await;
    let mut slow = asking(&mirror, &digest).await;
    slow.readable().await.unwrap();
    assert_eq!(mirror.client().get("/v2/").await.status, 503);
    let (status, body) = answer(&mut slow, true).await;
    assert!(status == "200" && body == content.slice(0, LARGE));
    eventually("the place is free again", async || in_flight(&mirror) == 0).await;
    assert_eq!(mirror.client().get("/v2/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_hit_is_cut() {
    let (_upstream, mirror, _content, digest) = holding(LARGE, "stall_timeout = \"700ms\"").await;
    let mut stalled = asking(&mirror, &digest).await;
    stalled.readable().await.unwrap();
    assert_eq!(in_flight(&mirror), 1);
    eventually("it is cut", async || in_flight(&mirror) == 0).await;
    let mut got = Vec::new();
    // Either end of a connection that was cut.
    let _reset = stalled.read_to_end(&mut got).await;
    assert!((got.len() as u64) < LARGE);
}

#[tokio::test]
async fn a_stored_file_that_has_become_shorter_cuts_the_answer_short() {
    let (_upstream, mirror, content, digest) = holding(LARGE, "").await;
    let log = crate::support::log::Log::begin();
    let mut client = asking(&mirror, &digest).await;
    client.readable().await.unwrap();
    let file = super::stored_files(&mirror).pop().unwrap();
    std::fs::File::options().write(true).open(file).unwrap().set_len(LARGE - 100_000).unwrap();
    let mut got = Vec::new();
    let _reset = client.read_to_end(&mut got).await;
    let body = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len() - body, content.slice(0, LARGE - 100_000).len());
    assert!(got[body..] == content.slice(0, LARGE - 100_000));
    eventually("it is reported", async || log.text().contains("a stored blob cannot be read")).await;
}
