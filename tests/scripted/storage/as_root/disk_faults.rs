//! A failing disk fails no pull, and heals without a restart.

use std::time::Duration;

use rustix::io::Errno;

use crate::storage::{eventually, is_held, on, published, pull, quiet, stored_right};
use crate::support::client::Client;
use crate::support::faulty_disk::*;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

/// After a disk failed, storing is tried again.
const LATER: Duration = Duration::from_secs(31);

async fn heals(mirror: &Mirror, disk: &FaultyDisk, name: &str, image: &crate::support::image::Image) {
    disk.heals();
    eventually("it is stored again", async || {
        mirror.advance(LATER);
        pull(&mirror.client(), name, image).await;
        quiet(mirror).await;
        is_held(&mirror.client(), name, image).await
    })
    .await;
    eventually("no partial file is left", async || files_below(&mirror.storage().join("partial")).is_empty()).await;
    stored_right(&mirror.storage());
}

/// Faults below these directories; the index has tests of its own.
async fn any_fault_passes_and_heals(place: &str, ops: &[Op]) {
    for op in ops {
        for errno in [Errno::IO, Errno::NOSPC] {
            let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
            let (old, new) = (published(&upstream, "old", 1), published(&upstream, "new", 10));
            let mirror = on(&disk, &upstream).await;
            mirror.pull_whole("org/old", "1").await;
            let client = mirror.client();
            disk.fails(Fault::on(*op).at(place).with(errno).always());
            for _round in 0..2 {
                pull(&client, "new", &new).await;
                pull(&client, "old", &old).await;
                quiet(&mirror).await;
            }
            heals(&mirror, &disk, "new", &new).await;
            heals(&mirror, &disk, "old", &old).await;
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_while_a_blob_is_written_fails_no_pull_and_heals() {
    use Op::*;
    let ops = [Open, Create, MakeDir, Write, Truncate, Allocate, Sync, SyncDir, Link, Rename, Remove, RemoveDir];
    any_fault_passes_and_heals("/partial/", &ops).await;
}

#[tokio::test]
async fn a_disk_that_fails_where_blobs_are_stored_fails_no_pull_and_heals() {
    use Op::*;
    any_fault_passes_and_heals("/blobs/", &[Open, ReadDir, Read, MakeDir, Sync, SyncDir, Link, Rename, Remove]).await;
}

/// After a failed sync nobody knows what is on the disk: the next sync would say yes to pages that were never written.
#[tokio::test]
async fn what_was_written_before_a_failed_sync_is_never_stored() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let content = blob(40 * 1024 * 1024, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = on(&disk, &upstream).await;
    // The sync of the first checkpoint fails; all later ones go well.
    disk.fails(Fault::on(Op::Sync).at("/partial/"));
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(36 * 1024 * 1024, &gate));
    let path = format!("/v2/library/app/blobs/{digest}");
    let pull = tokio::spawn({
        let (client, path) = (mirror.client(), path.clone());
        async move { client.get(&path).await.body }
    });
    eventually("the first checkpoint has failed", async || disk.has_struck()).await;
    gate.open();
    assert!(pull.await.unwrap() == content.to_bytes());
    quiet(&mirror).await;
    assert_eq!(disk.files("/blobs/"), [], "the first one's bytes may not be on the disk");
    // One that came before the disk had shown that it works was passed through.
    eventually("stored anew", async || {
        assert!(mirror.client().get(&path).await.body == content.to_bytes());
        mirror.client().head(&path).await.header("cache-status") == "roadstead; hit"
    })
    .await;
    stored_right(&mirror.storage());
}

#[tokio::test]
async fn a_failing_disk_is_told_by_readyz_and_metrics_until_it_works() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let app = published(&upstream, "app", 1);
    let mirror = on(&disk, &upstream).await;
    let well = || mirror.metric(r#"roadstead_storage_healthy{part="store_writes"}"#);
    assert_eq!(well(), 1.0);
    for errno in [Errno::IO, Errno::NOSPC] {
        disk.fails(Fault::on(Op::Create).at("/partial/").with(errno).always());
        mirror.advance(LATER);
        pull(&mirror.client(), "app", &app).await;
        eventually("it is told", async || well() == 0.0).await;
        let ready = Client::new(mirror.admin).get("/readyz").await;
        assert_eq!(ready.status, 200, "pulls go on");
        let what = if errno == Errno::IO { "the disk failed" } else { "the disk is full" };
        assert!(ready.text().contains("store_writes") && ready.text().contains(what), "{}", ready.text());
        disk.heals();
        // Nobody pulls anything: it finds out by itself.
        eventually("it works again", async || well() == 1.0).await;
        assert_eq!(Client::new(mirror.admin).get("/readyz").await.text(), "ready\n");
    }
}

/// A bad sector under a stored blob.
#[tokio::test]
async fn a_stored_blob_that_cannot_be_read_is_fetched_again() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let app = published(&upstream, "app", 1);
    let mirror = on(&disk, &upstream).await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    let layer = &app.layers()[1];
    let hex = layer.digest.strip_prefix("sha256:").unwrap();
    // Always: the kernel reads ahead too, and tells nobody that it failed.
    disk.fails(Fault::on(Op::Read).at(hex).always());
    pull(&mirror.client(), "app", &app).await;
    quiet(&mirror).await;
    assert!(upstream.gets_of(&layer.digest) >= 2, "fetched again");
    disk.heals();
    let path = format!("/v2/org/app/blobs/{}", layer.digest);
    eventually("a hit", async || {
        mirror.advance(LATER);
        pull(&mirror.client(), "app", &app).await;
        mirror.client().head(&path).await.header("cache-status") == "roadstead; hit"
    })
    .await;
    stored_right(&mirror.storage());
}
