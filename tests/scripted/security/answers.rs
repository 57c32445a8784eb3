//! What answers hold in memory, however many clients wait for them.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use roadstead::cache::RegistryFacts;

use super::hub;
use crate::blobs::process::Process;
use crate::support::eventually;
use crate::support::image::{Builder, OCI_INDEX};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;
const TAGS: &str = "/v2/library/app/tags/list";

/// The head of an answer, of whose body the client takes no more.
async fn unread(address: std::net::SocketAddr, path: &str) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer comes").unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// A list of tags just below the cap.
fn long_list() -> Content {
    let names: Vec<String> = (0..160_000).map(|nth| format!("\"a-tag-of-twenty-{nth:06}\"")).collect();
    Content::from(format!("{{\"tags\":[{}]}}", names.join(",")))
}

#[tokio::test]
async fn t50_a_list_is_in_memory_once_however_many_clients_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    upstream.script(tag_lists().always().body(long_list()));
    let subject = sha256(b"subject");
    let descriptors: Vec<String> = (0..12_000)
        .map(|nth| {
            format!(
                "{{\"mediaType\":\"a/b\",\"digest\":\"sha256:{nth:064x}\",\"size\":1,\"artifactType\":\"x/y\",\"annotations\":{{\"a\":\"{}\"}}}}",
                "b".repeat(150)
            )
        })
        .collect();
    let referrer_list = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", descriptors.join(","));
    upstream.script(referrers().always().body(referrer_list).header("content-type", OCI_INDEX));
    let process = Process::start(directory.path(), &upstream).await;
    let filtered = format!("/v2/library/app/referrers/{subject}?artifactType=x/y");
    for path in [TAGS, &filtered] {
        assert!(process.client().get(path).await.body.len() as u64 > 3 * MIB, "{path}");
        let before = process.private_bytes();
        let mut clients = Vec::new();
        for _client in 0..100 {
            clients.push(unread(process.address(), path).await);
        }
        assert!(clients.iter().all(|(_, head)| head.contains(" 200 OK")), "{path}");
        let grown = process.private_bytes().saturating_sub(before) / MIB;
        assert!(grown < 64, "{path}: {grown} MiB");
    }
}

#[tokio::test]
async fn t50_many_long_manifests_are_in_memory_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    // More than the 64 MiB of memory have room for.
    let manifests: Vec<_> = (0..24).map(|nth| Builder::new().layer(blob(10, nth)).padding(4_000_000).build()).collect();
    for (nth, manifest) in manifests.iter().enumerate() {
        upstream.publish("library/app", &format!("t{nth}"), manifest);
    }
    let process = Process::start(directory.path(), &upstream).await;
    let before = process.private_bytes();
    let mut clients = Vec::new();
    for _again in 0..6 {
        for manifest in &manifests {
            let path = format!("/v2/library/app/manifests/{}", manifest.digest);
            clients.push(unread(process.address(), &path).await);
        }
    }
    assert!(clients.iter().all(|(_, head)| head.contains(" 200 OK")));
    let grown = process.private_bytes().saturating_sub(before) / MIB;
    assert!(grown < 256, "{} answers of 4 MiB: {grown} MiB", clients.len());
}

#[tokio::test]
async fn t50_long_contents_take_256_mib_together_and_short_ones_go_on() {
    let upstream = Upstream::start().await;
    upstream.script(tag_lists().always().body(long_list()));
    let long = Builder::new().padding(4_000_000).build();
    upstream.publish("library/app", "long", &long);
    let app = super::publish_app(&upstream);
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let paths = [TAGS, "/v2/library/app/manifests/long"];
    for path in paths {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
    let mirror = mirror.restart().await;
    let contents = mirror.inner().cache().index.contents().clone();
    let take = |owner: &str, mebibytes: usize| {
        let bytes = Bytes::from(vec![0; mebibytes << 20]);
        contents.share(owner, &sha256(owner.as_bytes()).parse().unwrap(), bytes.len(), || bytes.clone()).unwrap()
    };
    let others = [take("one.test", 128), take("other.test", 126)];
    for path in paths {
        let refused = mirror.client().get(path).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text());
    }
    let answer = mirror.client().get(super::APP).await;
    assert_eq!((answer.status, answer.body), (200, app.manifest));
    drop(others);
    for path in paths {
        assert_eq!(mirror.client().get(path).await.status, 200);
    }
}

#[tokio::test]
async fn t67_who_takes_nothing_goes_after_5_s_while_answers_hold_much_memory() {
    let upstream = Upstream::start().await;
    upstream.script(tag_lists().always().body(long_list()));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let contents = mirror.inner().cache().index.contents().clone();
    let bytes = Bytes::from(vec![0; 192 << 20]);
    let _others =
        contents.share("others.test", &sha256(b"others").parse().unwrap(), bytes.len(), || bytes.clone()).unwrap();
    let (_stalled, head) = unread(mirror.address, TAGS).await;
    assert!(head.contains(" 200 OK"));
    eventually("the list is let go", async || contents.bytes() == bytes.len()).await;
}

#[tokio::test]
async fn t67_seventy_clients_that_read_nothing_leave_a_place_to_one_that_reads() {
    let upstream = Upstream::start().await;
    let large = upstream.blob("library/app", blob(16 * MIB, 60));
    let content = blob(MIB, 61);
    let small = upstream.blob("library/app", &content);
    let mirror = Mirror::builder(hub(upstream.url(), "")).storage("max_size = \"10KiB\"").start().await;
    let (address, path) = (mirror.address, super::blob_path("library/app", &large));
    let stalled = || {
        let path = path.clone();
        tokio::spawn(async move { unread(address, &path).await })
    };
    let _stalled: Vec<_> = (0..70).map(|_client| stalled()).collect();
    let passing = || upstream.requests().iter().filter(|request| request.method == "GET").count();
    eventually("all 64 places are taken", async || passing() >= 64).await;
    for _again in 0..2 {
        let answer = mirror.client().get(&super::blob_path("library/app", &small)).await;
        assert!(answer.status == 200 && answer.body == content.to_bytes(), "{} {}", answer.status, answer.body.len());
    }
}

#[tokio::test]
async fn t50_a_manifest_beyond_those_that_wait_to_be_stored_is_answered_and_not_stored() {
    let upstream = Upstream::start().await;
    let (app, other) = (super::publish_app(&upstream), Builder::new().layer(blob(10, 1)).build());
    upstream.publish("library/app", "other", &other);
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let stored = async |digest: &str| {
        let held = mirror.inner().cache().store.stamp(digest.parse().unwrap()).await.unwrap();
        held.is_some()
    };
    let (authority, registry) = ("docker.io".parse().unwrap(), facts());
    let wait = |mebibytes: usize| mirror.inner().evictor().may_store((&authority, &registry), mebibytes << 20);
    let waiting = wait(32).expect("one registry has half of the 64 MiB");
    let elsewhere = "other.test".parse().unwrap();
    assert!(mirror.inner().evictor().may_store((&elsewhere, &registry), 4 << 20).is_some());
    assert_eq!(mirror.client().get(super::APP).await.status, 200);
    assert_eq!(mirror.metric(r#"roadstead_reservations_refused_total{authority="docker.io"}"#), 1.0);
    drop(waiting);
    assert_eq!(mirror.client().get("/v2/library/app/manifests/other").await.status, 200);
    eventually("there is room again", async || stored(&other.digest).await).await;
    assert!(!stored(&app.digest).await);
    eventually("what is stored waits no more", async || wait(32).is_some()).await;
}

fn facts() -> RegistryFacts {
    RegistryFacts { name: "docker.io".to_owned(), max_size: None, is_offline: false, is_public: false }
}

#[tokio::test]
async fn t29_long_bodies_of_one_registry_take_64_mib_while_they_come_and_others_go_on() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let long = |seed| Builder::new().layer(blob(10, seed)).padding(4_000_000).build();
    let digests: Vec<String> =
        (0..20).map(|nth| upstream.publish("library/app", &format!("t{nth}"), &long(nth))).collect();
    let app = super::publish_app(&upstream);
    other.publish("library/app", "v1", &long(40));
    let gate = Gate::closed();
    let long_ones = digests.clone();
    let is_long = move |request: &Recorded| request.reference.as_ref().is_some_and(|digest| long_ones.contains(digest));
    upstream.script(manifests().get().when(is_long).always().stall_after(1_000_000, &gate));
    let toml = format!("{}[upstreams.\"other.test\"]\nurl = \"{}\"\n", hub(upstream.url(), ""), other.url());
    let mirror = Mirror::start(toml).await;
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    for digest in digests {
        let (client, ended) = (mirror.client(), ended.clone());
        tokio::spawn(async move {
            let answer = client.get(&format!("/v2/library/app/manifests/{digest}")).await;
            ended.send(answer.status).unwrap();
        });
    }
    let mut next = async || tokio::time::timeout(PATIENCE, ends.recv()).await.expect("an answer comes").unwrap();
    // Each is counted with all the bytes that it may have.
    for _beyond_sixteen in 0..4 {
        assert_eq!(next().await, 504);
    }
    assert_eq!(mirror.client().get("/v2/library/app/manifests/v1?ns=other.test").await.status, 200);
    assert_eq!(mirror.client().get(super::APP).await.body, app.manifest, "a short one needs no room");
    gate.open();
    for _within in 0..16 {
        assert_eq!(next().await, 200);
    }
}
