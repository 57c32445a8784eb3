//! The bytes that are counted are the bytes on the disk, also after a kill -9 at any moment.

use super::*;
use crate::blobs::process::Process;

const SMALL: &str = "max_size = \"6MiB\"";

#[tokio::test]
async fn after_kills_in_mid_eviction_the_bytes_counted_are_the_bytes_on_disk() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..24);
    let mut directory = tempfile::tempdir().unwrap();
    for round in 0_usize..8 {
        let process = Process::start_with(directory.path(), SMALL, &upstream).await;
        let pulls = (0..4).map(|client| {
            let (http, digests) = (process.client(), digests.clone());
            tokio::spawn(async move {
                for nth in 0.. {
                    if http.try_get(&path_of(&digests[(client * 5 + nth) % digests.len()])).await.is_err() {
                        return nth;
                    }
                }
                0
            })
        });
        let pulls: Vec<_> = pulls.collect();
        let before = upstream.requests().len();
        eventually("pulls go on", async || upstream.requests().len() > before + 6 + round).await;
        process.kill();
        for pull in pulls {
            pull.await.unwrap();
        }
        let mirror = bounded(&upstream, SMALL).directory(directory).start().await;
        assert_eq!(used(&mirror), bytes_on_disk(&mirror.storage()), "round {round}");
        directory = mirror.stop().await.into_directory();
    }
}
