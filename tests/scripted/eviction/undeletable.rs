//! Files that the disk does not remove.

use super::*;

use crate::support::log::Log;

pub(super) const FULL: &str = "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

/// How many blobs the index knows, and the sum of their sizes.
pub(super) async fn known(mirror: &Mirror) -> (u64, u64) {
    let counts = mirror.inner().cache().counts().await.unwrap();
    (counts.blobs, counts.stored_bytes)
}

/// As many as one step takes, and the coldest.
#[tokio::test]
async fn files_that_cannot_be_removed_do_not_keep_the_others_from_going() {
    let log = Log::begin();
    let upstream = Upstream::start().await;
    let stuck: Vec<String> = (0..64).map(|seed| upstream.blob(APP, blob(MIB / 64, 100 + seed))).collect();
    let digests = mebibytes(&upstream, 0..6);
    let mirror = bounded(&upstream, FULL).start().await;
    pull_all(&mirror, &stuck).await;
    pull_all(&mirror, &digests[..3]).await;
    for digest in &stuck {
        // Not even root removes a directory as a file, and what is in it stays.
        let path = file_of(&mirror, digest);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("in the way")).unwrap();
    }
    pull_all(&mirror, &digests[3..]).await;
    assert_eq!(kept(&mirror, &digests), [3, 4, 5]);
    assert_eq!((evicted(&mirror, "space"), kept(&mirror, &stuck).len()), (3, 64));
    assert_eq!((used(&mirror), known(&mirror).await), (4 * MIB, (67, 4 * MIB)), "what stays is counted");
    assert_eq!(log.text().matches("cannot be evicted").count(), 1);
}
