//! A name server of the test's own, in a view of the file system of the program's own: its port and that view take root.

use std::net::UdpSocket;

use crate::blobs::process::Process;
use crate::support::upstream::*;

/// Questions that have come since the last look.
fn asked(server: &UdpSocket) -> usize {
    let mut packet = [0; 1500];
    std::iter::from_fn(|| server.recv_from(&mut packet).ok()).count()
}

#[tokio::test]
async fn offline_asks_no_name_server_anything() {
    let address = format!("127.53.{}.{}", std::process::id() / 250 % 250, std::process::id() % 250 + 1);
    let server = UdpSocket::bind((address.as_str(), 53)).expect("this test binds a port below 1024: run it as root");
    server.set_nonblocking(true).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let resolv = directory.path().join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {address}\noptions timeout:1 attempts:1\n")).unwrap();
    let mount = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", resolv.display());
    let by = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &mount, "sh"];
    let digest = sha256(b"");
    for offline in [false, true] {
        let toml = format!("[upstreams.\"docker.io\"]\nurl = \"http://registry.nowhere.test\"\noffline = {offline}\n");
        let process = Process::start_under(&by, directory.path(), &directory.path().join("data"), &toml).await;
        for path in ["manifests/1", "tags/list", &format!("manifests/{digest}"), &format!("blobs/{digest}")] {
            let answer = process.client().get(&format!("/v2/org/app/{path}")).await;
            assert_eq!(answer.status == 404, offline, "{path}: {} {}", answer.status, answer.text());
        }
        process.stop().await;
        assert_eq!(asked(&server) == 0, offline, "offline = {offline}");
    }
}
