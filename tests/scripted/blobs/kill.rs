//! kill -9, and what the next process makes of it.

use super::process::Process;
use super::{eventually, open, path_of, take};
use crate::support::mirror::files_below;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 40 * MIB;

#[tokio::test]
async fn t17_a_fill_that_was_killed_goes_on_from_its_last_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(36 * MIB, &gate));
    let process = Process::start(directory.path(), &upstream).await;
    let mut reader = open(&process.client(), &path_of(&digest)).await;
    take(&mut reader, usize::try_from(30 * MIB).unwrap()).await;
    let partial = directory.path().join("data/partial");
    eventually("a checkpoint is written", async || {
        files_below(&partial).iter().any(|path| path.extension().is_some_and(|end| end == "json"))
    })
    .await;
    process.kill();
    assert!(files_below(&directory.path().join("data/blobs")).is_empty(), "absent or whole");
    upstream.forget_requests();

    let process = Process::start(directory.path(), &upstream).await;
    let answer = process.client().get(&path_of(&digest)).await;
    assert!(answer.status == 200 && answer.body == content.to_bytes());
    let starts: Vec<_> = upstream.requests_of(&blobs().get()).iter().map(Recorded::range_start).collect();
    assert_eq!(starts.len(), 1);
    assert!(starts[0].is_some_and(|start| start >= 16 * MIB), "{starts:?}");
    assert!(upstream.bytes_sent() <= 24 * MIB, "{}", upstream.bytes_sent());
}

/// Bytes that were answered may be asked for again, and must not be answered wrong.
#[tokio::test]
async fn what_was_pulled_before_a_kill_is_absent_or_whole() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let contents: Vec<_> = (0..20).map(|seed| blob(200_000, 100 + seed)).collect();
    let digests: Vec<_> = contents.iter().map(|content| upstream.blob("library/app", content)).collect();
    for round in 0..4 {
        let process = Process::start(directory.path(), &upstream).await;
        let client = process.client();
        for digest in &digests[..(round + 1) * 5] {
            assert_eq!(sha256(&client.get(&path_of(digest)).await.body), *digest, "round {round}");
        }
        process.kill();
        for path in files_below(&directory.path().join("data/blobs")) {
            let name = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
            assert_eq!(sha256(&std::fs::read(&path).unwrap()), name);
        }
    }
    let partial = files_below(&directory.path().join("data/partial"));
    let process = Process::start(directory.path(), &upstream).await;
    assert!(files_below(&directory.path().join("data/partial")).is_empty(), "{partial:?}");
    drop(process);
}
