//! T121, T123: what short files and bare claims take of the disk (docs/SECURITY-THREATS.md).

use super::hub;
use crate::support::mirror::{Mirror, files_below, quiet};
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn t121_short_blobs_count_as_whole_blocks_towards_max_size() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::builder(hub(upstream.url(), "max_size = \"100KiB\"")).start().await;
    for seed in 0..60 {
        let digest = upstream.blob("library/app", blob(10, 100 + seed));
        assert_eq!(mirror.client().get(&super::blob_path("library/app", &digest)).await.status, 200);
        quiet(&mirror).await;
        let files = files_below(&mirror.storage().join("blobs")).len();
        assert!(files <= 25, "{files} blobs of 4 KiB on the disk");
    }
    let mirror = mirror.restart().await;
    let used = mirror.inner().cache().store.used_by(&"docker.io".parse().unwrap());
    assert!(used > 40 * 1024 && used <= 100 * 1024 && used.is_multiple_of(4096), "{used}");
}

#[tokio::test]
async fn t123_a_claim_sets_64_mib_aside_where_there_is_plenty_of_room() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    let content = blob(MIB, 1);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().always().content(content.with_size(1024 * MIB)).stall_after(100_000, &gate));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let path = super::blob_path("library/app", &digest);
    let claimed = mirror.client().open(http::Method::GET, &path, &[]).await.unwrap();
    gate.arrived().await;
    let used = mirror.inner().cache().used_bytes();
    assert!((MIB..=66 * MIB).contains(&used), "{} MiB", used / MIB);
    drop(claimed);
    gate.open();
}
