//! The fake does what it says, seen from a bare socket: no HTTP client mends anything on the way.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// All bytes until the connection ended.
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut all = Vec::new();
    // A reset ends the reply just as well; what counts is what came before it.
    let _ended = stream.read_to_end(&mut all).await;
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    Reply { body: all.split_off(end), head: String::from_utf8_lossy(&all).into_owned() }
}

#[tokio::test]
async fn an_honest_registry_by_default() {
    let up = Upstream::start().await;
    let content = blob(200_000, 7);
    let digest = up.blob("library/app", &content);
    let path = format!("/v2/library/app/blobs/{digest}");

    let whole = ask(up.address(), "GET", &path, "").await;
    assert_eq!((whole.status(), sha256(&whole.body)), (200, digest.clone()));
    assert_eq!(whole.header("docker-content-digest"), Some(digest.as_str()));

    let part = ask(up.address(), "GET", &path, "range: bytes=65530-65545\r\n").await;
    assert_eq!((part.status(), part.header("content-range")), (206, Some("bytes 65530-65545/200000")));
    assert_eq!(part.body, content.slice(65_530, 65_546));
    assert_eq!(part.header("content-length"), Some("16"));

    let beyond = ask(up.address(), "GET", &path, "range: bytes=200000-\r\n").await;
    assert_eq!((beyond.status(), beyond.header("content-range")), (416, Some("bytes */200000")));

    let head = ask(up.address(), "HEAD", &path, "range: bytes=0-9\r\n").await;
    assert_eq!((head.status(), head.header("content-length"), head.body.len()), (200, Some("200000"), 0));

    let elsewhere = ask(up.address(), "GET", &path.replace("app", "other"), "").await;
    assert_eq!(elsewhere.status(), 404);
    assert_eq!((up.gets_of(&digest), up.heads_of(&digest), up.connections()), (4, 1, 5));
    assert_eq!(up.requests_of(&blobs().ranged()).len(), 3);
}

#[tokio::test]
async fn a_cut_comes_behind_the_very_byte() {
    let up = Upstream::start().await;
    let content = blob(5_000_000, 1);
    let digest = up.blob("a", &content);
    let path = format!("/v2/a/blobs/{digest}");
    for bytes in [0, 1, 65_536, 1_234_567, 4_999_999] {
        up.script(blobs().once().cut_after(bytes));
        let reply = ask(up.address(), "GET", &path, "").await;
        assert_eq!((reply.status(), reply.header("content-length")), (200, Some("5000000")));
        assert_eq!(reply.body, content.slice(0, bytes));
    }
    up.script(blobs().once().cut_before_headers());
    assert_eq!(ask(up.address(), "GET", &path, "").await.head, "");
}

#[tokio::test]
async fn a_stalled_body_has_sent_what_comes_before_the_gate() {
    let up = Upstream::start().await;
    let digest = up.blob("a", blob(100_000, 1));
    let gate = Gate::closed();
    up.script(blobs().once().stall_after(70_000, &gate));
    let mut stream = TcpStream::connect(up.address()).await.expect("it listens");
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    gate.arrived().await;
    let mut before = vec![0; 70_000];
    stream.read_exact(&mut before).await.expect("that much is there");
    assert_eq!(up.bytes_sent(), 70_000);
    gate.open();
    let mut after = Vec::new();
    stream.read_to_end(&mut after).await.expect("a clean end");
    assert!(after.len() >= 30_000, "the rest follows");
}

#[tokio::test]
async fn lies_about_bytes_keep_their_story_straight() {
    let up = Upstream::start().await;
    let content = blob(100, 1);
    let digest = up.blob("a", &content);
    let path = format!("/v2/a/blobs/{digest}");
    let table: [(Step, &str, Content); 4] = [
        (blobs().once().wrong_byte_at(99), "100", content.with_wrong_byte(99)),
        (blobs().once().truncated_to(60), "60", content.slice(0, 60).into()),
        (blobs().once().extra_byte(), "101", content.with_size(101)),
        (blobs().once().content("other"), "5", "other".into()),
    ];
    for (step, length, want) in table {
        up.script(step);
        let reply = ask(up.address(), "GET", &path, "").await;
        assert_eq!((reply.status(), reply.header("content-length")), (200, Some(length)));
        assert_eq!(reply.body, want.to_bytes());
        assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
    }
}

#[tokio::test]
async fn limited_steps_take_turns_and_lasting_ones_add_up() {
    let up = Upstream::start().await;
    up.blob("a", "x");
    up.script(blobs().always().header("x-one", "1"));
    up.script(blobs().always().header("x-two", "2"));
    up.script(blobs().times(2).status(500));
    up.script(blobs().once().too_many_requests("7"));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let reply = ask(up.address(), "GET", &format!("/v2/a/blobs/{}", sha256(b"x")), "").await;
        assert_eq!((reply.header("x-one"), reply.header("x-two")), (Some("1"), Some("2")));
        seen.push((reply.status(), reply.header("retry-after").map(ToOwned::to_owned)));
    }
    assert_eq!(seen, [(500, None), (500, None), (429, Some("7".to_owned())), (200, None)]);
}

#[tokio::test]
async fn tokens_open_what_they_were_asked_for() {
    let up = Upstream::start().await;
    let auth = TokenAuth::new().user("robot", "secret").private("corp/");
    up.token_auth(&auth);
    let digest = up.blob("corp/app", "x");
    let path = format!("/v2/corp/app/blobs/{digest}");

    let refused = ask(up.address(), "GET", &path, "").await;
    let challenge =
        format!("Bearer realm=\"{}/token\",service=\"registry.test\",scope=\"repository:corp/app:pull\"", up.url());
    assert_eq!((refused.status(), refused.header("www-authenticate")), (401, Some(challenge.as_str())));

    let realm = "/token?service=registry.test&scope=repository%3Acorp%2Fapp%3Apull";
    // "robot:secret" and "robot:wrong"
    for (authorization, token_status, blob_status) in [
        ("", 200, 401),
        ("authorization: Basic cm9ib3Q6c2VjcmV0\r\n", 200, 200),
        ("authorization: Basic cm9ib3Q6d3Jvbmc=\r\n", 401, 401),
    ] {
        let reply = ask(up.address(), "GET", realm, authorization).await;
        assert_eq!(reply.status(), token_status);
        let token: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let bearer = format!("authorization: Bearer {}\r\n", token["token"].as_str().unwrap_or_default());
        assert_eq!(ask(up.address(), "GET", &path, &bearer).await.status(), blob_status);
        if blob_status == 200 {
            auth.expire_all();
            assert_eq!(ask(up.address(), "GET", &path, &bearer).await.status(), 401);
        }
    }
    assert_eq!((auth.issued().len(), auth.failed_logins()), (2, 1));
}

#[tokio::test]
async fn a_stopped_upstream_refuses_and_comes_back() {
    let up = Upstream::start().await;
    assert_eq!(ask(up.address(), "GET", "/v2/", "").await.status(), 200);
    up.stop().await;
    let refused = TcpStream::connect(up.address()).await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
    up.restart().await;
    assert_eq!(ask(up.address(), "GET", "/v2/", "").await.status(), 200);
}

#[tokio::test]
#[should_panic(expected = "the script has steps left")]
async fn a_step_that_is_never_used_fails_the_test() {
    let up = Upstream::start().await;
    up.script(blobs().once().status(500));
}
