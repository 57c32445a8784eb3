//! Ranges of a blob that cannot be stored: upstream sends about what the client reads.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::{eventually, one, open_range, path_of, rest};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 64 * 1024 * 1024;
const TAIL: u64 = SIZE - super::WITHHELD as u64;

/// A mirror without room that has found so already, and the blob.
async fn full(upstream: &Upstream, seed: u64) -> (Mirror, Content, String) {
    let content = blob(SIZE, seed);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::builder(one(upstream, "")).storage("max_size = \"10KiB\"").start().await;
    assert_eq!(mirror.client().range(&path_of(&digest), "0-9").await.body, content.slice(0, 10));
    upstream.forget_requests();
    (mirror, content, digest)
}

/// First and last byte of each range that was asked of upstream; `None` for the whole blob.
fn asked(upstream: &Upstream) -> Vec<Option<(u64, u64)>> {
    let range = |request: &Recorded| {
        let (first, last) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().expect("no range is open-ended")))
    };
    upstream.requests_of(&blobs().get()).iter().map(range).collect()
}

#[tokio::test]
async fn t56_a_range_that_cannot_be_stored_is_asked_for_as_far_as_it_is_read() {
    let upstream = Upstream::start().await;
    let (mirror, content, digest) = full(&upstream, 1).await;
    let mut left_early = Vec::new();
    for nth in 1..8 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(mirror.address).await.unwrap();
        let (path, first) = (path_of(&digest), nth * 5_000_000);
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nrange: bytes={first}-\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut given = vec![0; 2000];
        stream.read_exact(&mut given).await.unwrap();
        let body = given.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(given[body..] == content.slice(first, first + (given.len() - body) as u64));
        left_early.push(stream);
    }
    let asked = asked(&upstream);
    assert!(asked.len() >= 7);
    // The kernel takes up to 4 MiB of each answer; the rest of each blob is four times as much.
    let bytes: u64 = asked.iter().map(|range| range.map_or(SIZE, |(first, last)| last + 1 - first)).sum();
    assert!(bytes <= 7 * 8 * 1024 * 1024, "{asked:?}");
}

#[tokio::test]
async fn a_range_that_cannot_be_stored_is_whole_though_it_comes_in_pieces() {
    let upstream = Upstream::start().await;
    let (mirror, content, digest) = full(&upstream, 2).await;
    let (given, complete) = rest(&mut open_range(&mirror.client(), &path_of(&digest), "777-").await).await;
    assert!(complete && given == content.slice(777, SIZE));
    let asked = asked(&upstream);
    assert!(asked.len() < 10 && asked.iter().filter(|range| range.is_none()).count() == 1, "{asked:?}");
    let (given, complete) = rest(&mut open_range(&mirror.client(), &path_of(&digest), "1000-3000000").await).await;
    assert!(complete && given == content.slice(1000, 3_000_001));
}

#[tokio::test]
async fn t56_the_tail_is_proven_once_for_all_who_ask() {
    let upstream = Upstream::start().await;
    let (mirror, content, digest) = full(&upstream, 3).await;
    let client = mirror.client();
    let path = path_of(&digest);
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(TAIL, &gate));
    let asking = join_all((1..9).map(|count| {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { (count, client.range(&path, &format!("-{count}")).await) })
    }));
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(8).await;
    gate.open();
    for answered in asking.await {
        let (count, answer) = answered.unwrap();
        assert_eq!((answer.status, answer.body), (206, content.slice(SIZE - count, SIZE)));
    }
    assert_eq!(asked(&upstream), [None]);
    upstream.forget_requests();
    assert_eq!(client.range(&path, &format!("{TAIL}-")).await.body, content.slice(TAIL, SIZE));
    assert_eq!(asked(&upstream), [], "what was proven is kept");
}

#[tokio::test]
async fn a_tail_that_nobody_waits_for_is_not_read_on() {
    let upstream = Upstream::start().await;
    let (mirror, _, digest) = full(&upstream, 4).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(100_000, &gate));
    let asking = tokio::spawn({
        let client = mirror.client();
        async move { client.range(&path_of(&digest), "-1").await }
    });
    gate.arrived().await;
    let open = upstream.open_connections();
    asking.abort();
    eventually("its connection is closed", async || upstream.open_connections() < open).await;
}

#[tokio::test]
async fn several_ranges_of_what_cannot_be_stored_are_answered_up_to_sixteen() {
    let upstream = Upstream::start().await;
    let (mirror, content, digest) = full(&upstream, 5).await;
    let ranges = |count: u64| (0..count).map(|nth| format!("{}-{}", nth * 1000, nth * 1000 + 9)).collect::<Vec<_>>();
    let parts = mirror.client().range(&path_of(&digest), &(ranges(15).join(",") + ",-10")).await.parts();
    assert_eq!(parts.len(), 16);
    for (first, bytes) in parts {
        assert_eq!(bytes, content.slice(first, first + 10));
    }
    let whole = mirror.client().range(&path_of(&digest), &ranges(17).join(",")).await;
    assert!(whole.status == 200 && whole.body == content.to_bytes());
}
