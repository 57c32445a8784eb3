//! A reader costs a few words and a buffer, at any size of the blob.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::path_of;
use super::process::Process;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn t29_a_hundred_slow_readers_of_one_fill_hold_a_little_memory_each() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let content = blob(128 * MIB, 1);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(64 * MIB, &gate));
    let process = Process::start(directory.path(), &upstream).await;
    let before = process.private_bytes();
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut reader = TcpStream::connect(process.address()).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", path_of(&digest));
        reader.write_all(request.as_bytes()).await.unwrap();
        let mut beginning = vec![0; 100_000];
        reader.read_exact(&mut beginning).await.unwrap();
        readers.push(reader);
    }
    gate.open();
    let whole = process.client().get(&path_of(&digest)).await;
    assert_eq!(sha256(&whole.body), digest);
    let held = process.private_bytes().saturating_sub(before);
    assert!(held < 100 * 2 * MIB, "{} MiB", held / MIB);
    assert_eq!(upstream.gets_of(&digest), 1);
}
