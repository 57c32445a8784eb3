//! Rotten files on a disk that does not let them go.

use roadstead::cache::scrub::{VerifyProgress, verify};

use crate::storage::hot::path_of;
use crate::storage::verify::rot;
use crate::storage::{on, one, published};
use crate::support::faulty_disk::*;
use crate::support::upstream::*;

/// Nowhere else to get it from is no reason to serve wrong bytes.
#[tokio::test]
async fn what_was_found_rotten_and_cannot_be_moved_away_is_not_served_offline_either() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let app = published(&upstream, "app", 1);
    let mirror = on(&disk, &upstream).await;
    mirror.pull_whole("org/app", "1").await;
    let mirror = mirror.stop().await.start_with(format!("{}offline = true\n", one(&upstream))).await;
    let layer = &app.layers()[1];
    for _ in 0..2 {
        assert_eq!(mirror.client().get(&path_of(&layer.digest)).await.status, 200);
    }
    let path = rot(&mirror.storage(), &layer.digest);
    disk.fails(Fault::on(Op::Rename).at("/blobs/").always());
    disk.fails(Fault::on(Op::Remove).at("/blobs/").always());
    let report = verify(mirror.inner().cache(), None, &VerifyProgress::default()).await;
    assert!(report.wrong.len() == 1 && path.exists(), "{report:?}");
    assert_eq!(mirror.client().get(&path_of(&layer.digest)).await.status, 404);
    disk.heals();
    let report = verify(mirror.inner().cache(), None, &VerifyProgress::default()).await;
    assert!(report.lost.len() == 1 && !path.exists(), "{report:?}");
}
