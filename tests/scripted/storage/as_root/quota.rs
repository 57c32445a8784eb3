//! A quota of the file system: the disk has room, and this user has none.

use rustix::io::Errno;

use crate::storage::{eventually, on, quiet};
use crate::support::faulty_disk::*;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn a_quota_of_the_file_system_that_is_used_up_makes_room_as_a_full_disk_does() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let digests: Vec<_> = (0..5).map(|seed| upstream.blob("org/app", blob(MIB, seed))).collect();
    let mirror = on(&disk, &upstream).await;
    let path = |digest: &str| format!("/v2/org/app/blobs/{digest}");
    let is_held =
        async |digest: &str| mirror.client().head(&path(digest)).await.header("cache-status").ends_with("hit");
    for digest in &digests[..4] {
        assert_eq!(sha256(&mirror.client().get(&path(digest)).await.body), *digest);
        quiet(&mirror).await;
        assert!(is_held(digest).await, "stored");
        mirror.advance(std::time::Duration::from_mins(10));
    }
    disk.fails(Fault::on(Op::Write).at("/partial/").with(Errno::DQUOT));
    // It may be cut, and a client goes on from there.
    drop(mirror.client().try_get(&path(&digests[4])).await);
    quiet(&mirror).await;
    let evicted = || mirror.metric(r#"roadstead_evicted_blobs_total{authority="docker.io",reason="space"}"#);
    // The space that it wanted, and what index and log take beside it.
    eventually("as much goes as was refused", async || evicted() == 3.0).await;
    assert!(is_held(&digests[3]).await && !is_held(&digests[0]).await, "the oldest made room");
    mirror.advance(std::time::Duration::from_secs(31));
    mirror.client().get(&path(&digests[4])).await;
    quiet(&mirror).await;
    assert!(is_held(&digests[4]).await, "stored");
    assert_eq!(evicted(), 3.0, "once");
}
