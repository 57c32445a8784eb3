//! SIGTERM: not ready, no new connections, what runs may end, exit 0.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::program::Program;
use crate::support::mirror::files_below;
use crate::support::upstream::*;

fn config(registry: &Upstream, deadline: &str) -> String {
    format!(
        "[server]\nshutdown_deadline = \"{deadline}\"\n[storage]\npath = \"data\"\n[upstreams.\"docker.io\"]\nurl = \"{}\"\n",
        registry.url()
    )
}

fn stored(directory: &tempfile::TempDir) -> usize {
    files_below(&directory.path().join("data/blobs")).len()
}

/// A program with one download that stands still behind its first bytes.
async fn filling(deadline: &str) -> (Upstream, Program, Gate, String) {
    let registry = Upstream::start().await;
    let digest = registry.blob("org/app", blob(1_000_000, 1));
    let gate = Gate::closed();
    registry.script(blobs().get().always().stall_after(300_000, &gate));
    let program = Program::of(&config(&registry, deadline)).await;
    (registry, program, gate, format!("/v2/org/app/blobs/{digest}"))
}

async fn until_draining(program: &Program) {
    let admin = program.admin_client();
    let off = async { while admin.get("/readyz").await.status != 503 {} };
    tokio::time::timeout(PATIENCE, off).await.expect("/readyz goes off");
}

#[tokio::test]
async fn a_running_response_ends_whole_while_nobody_new_gets_in() {
    let (_registry, program, gate, path) = filling("1h").await;
    let client = program.client();
    let pull = tokio::spawn(async move { client.try_get(&path).await });
    gate.arrived().await;
    assert_eq!(program.admin_client().get("/readyz").await.status, 200);
    program.signal("TERM");
    until_draining(&program).await;
    assert_eq!(program.admin_client().get("/livez").await.status, 200, "it is alive while it drains");
    let refused = async { while TcpStream::connect(program.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("no new connections");
    gate.open();
    let answer = pull.await.unwrap().unwrap();
    assert_eq!((answer.status, sha256(&answer.body)), (200, blob(1_000_000, 1).sha256()));
    let (code, log, directory) = program.ended().await;
    assert_eq!((code, stored(&directory)), (Some(0), 1), "{log}");
    assert!(log.contains("stopping") && log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_download_whose_client_has_left_ends_and_is_kept() {
    let (_registry, program, gate, path) = filling("1h").await;
    let client = program.client();
    let pull = tokio::spawn(async move { client.try_get(&path).await });
    gate.arrived().await;
    pull.abort();
    program.signal("INT");
    until_draining(&program).await;
    gate.open();
    let (code, log, directory) = program.ended().await;
    assert_eq!((code, stored(&directory)), (Some(0), 1), "{log}");
}

#[tokio::test]
async fn what_does_not_end_within_the_deadline_is_cut_and_goes_on_at_the_next_start() {
    let (registry, program, gate, path) = filling("1s").await;
    let client = program.client();
    let pull = tokio::spawn({
        let path = path.clone();
        async move { client.try_get(&path).await }
    });
    gate.arrived().await;
    program.signal("TERM");
    let (code, log, directory) = program.ended().await;
    assert_eq!((code, stored(&directory)), (Some(0), 0), "{log}");
    assert!(log.contains("shutdown_deadline"), "{log}");
    assert!(pull.await.unwrap().is_err(), "a cut answer does not look whole");
    gate.open();
    registry.clear_script();
    registry.forget_requests();
    let program = Program::start(directory, Some(&config(&registry, "1s")), &[]).await;
    let answer = program.client().get(&path).await;
    assert_eq!(sha256(&answer.body), blob(1_000_000, 1).sha256());
    let resumed = registry.requests_of(&blobs().get());
    assert!(resumed.iter().all(|request| request.range_start().is_some_and(|start| start > 0)), "{resumed:?}");
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_hold_it_up() {
    let registry = Upstream::start().await;
    let program = Program::of(&config(&registry, "1h")).await;
    let mut used = TcpStream::connect(program.address).await.unwrap();
    used.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    used.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let _silent = TcpStream::connect(program.address).await.unwrap();
    program.client().get("/v2/").await;
    program.signal("TERM");
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_registry, program, gate, path) = filling("1h").await;
    let client = program.client();
    let pull = tokio::spawn(async move { client.try_get(&path).await });
    gate.arrived().await;
    program.signal("TERM");
    program.line("stopping; ").await;
    program.signal("TERM");
    let (code, log, _directory) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping at once"), "{log}");
    assert!(pull.await.unwrap().is_err());
}

/// Whose fault it is tells a client where to go.
#[tokio::test]
async fn a_request_that_waits_when_the_deadline_comes_is_told_that_this_mirror_stops() {
    let registry = Upstream::start().await;
    let digest = registry.blob("org/app", blob(1_000_000, 1));
    let gate = Gate::closed();
    registry.script(blobs().get().always().stall_before_headers(&gate));
    let program = Program::of(&config(&registry, "1s")).await;
    let client = program.client();
    let pull = tokio::spawn(async move { client.get(&format!("/v2/org/app/blobs/{digest}")).await });
    gate.arrived().await;
    program.signal("TERM");
    let answer = pull.await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text());
    assert!(answer.text().contains("this mirror is shutting down"), "{}", answer.text());
    assert_eq!(program.ended().await.0, Some(0));
}
