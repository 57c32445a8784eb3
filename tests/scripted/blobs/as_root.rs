//! A disk that is full: a small file system of the test's own, whose mount takes root.

use std::path::PathBuf;
use std::time::Duration;

use super::no_room::passed_through;
use super::{counted, one, open_range, partial_files, path_in, path_of, quiet, stored_files, take};
use crate::support::eventually;
use crate::support::mirror::Mirror;
use crate::support::tmpfs::Tmpfs;
use crate::support::upstream::*;

#[tokio::test]
async fn a_full_disk_fails_no_pull() {
    let disk = Tmpfs::mount("24m");
    let upstream = Upstream::start().await;
    let contents: Vec<_> = (0..6).map(|seed| blob(8 * 1024 * 1024, 100 + seed)).collect();
    let digests: Vec<_> = contents.iter().map(|content| upstream.blob("library/app", content)).collect();
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = Mirror::builder(one(&upstream, "")).directory(storage).start().await;
    for _round in 0..2 {
        for (content, digest) in contents.iter().zip(&digests) {
            let answer = mirror.client().get(&path_of(digest)).await;
            assert!(answer.body == content.to_bytes());
        }
    }
    quiet(&mirror).await;
    assert!(passed_through(&mirror) > 0 && !stored_files(&mirror).is_empty());
    assert!(partial_files(&mirror).len() <= 2, "nothing is left of what did not fit");
}

/// Without a limit of its own: others use the disk, too.
#[tokio::test]
async fn a_full_disk_makes_room_for_the_next_pull() {
    let disk = Tmpfs::mount("24m");
    let upstream = Upstream::start().await;
    let contents: Vec<_> = (0..6).map(|seed| blob(4 * 1024 * 1024, 500 + seed)).collect();
    let digests: Vec<_> = contents.iter().map(|content| upstream.blob("library/app", content)).collect();
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = Mirror::builder(one(&upstream, "")).directory(storage).start().await;
    let evicted = || counted(&mirror, r#"roadstead_evicted_blobs_total{authority="docker.io",reason="space"}"#);
    let mut refused = None;
    for (content, digest) in contents.iter().zip(&digests) {
        assert!(mirror.client().get(&path_of(digest)).await.body == content.to_bytes());
        quiet(&mirror).await;
        if passed_through(&mirror) > 0 {
            refused = Some(digest);
            break;
        }
        mirror.advance(Duration::from_mins(10));
    }
    let refused = refused.expect("the disk is smaller than all of them");
    eventually("some of it is evicted", async || evicted() > 0).await;
    let is_held =
        async |digest: &str| mirror.client().head(&path_of(digest)).await.header("cache-status").ends_with("hit");
    eventually("the disk works again", async || {
        counted(&mirror, r#"roadstead_storage_healthy{part="store_writes"}"#) == 1
    })
    .await;
    mirror.client().get(&path_of(refused)).await;
    quiet(&mirror).await;
    assert!(is_held(refused).await && !is_held(&digests[0]).await, "the oldest made room");
    assert!(evicted() <= 2, "and no more than that: {}", evicted());
}

fn fill_up(disk: &Tmpfs) -> PathBuf {
    let path = disk.path().join("ballast");
    let mut ballast = std::fs::File::create(&path).unwrap();
    while std::io::Write::write(&mut ballast, &[1; 4096]).is_ok_and(|written| written > 0) {}
    path
}

/// Not even the index has room for a row.
#[tokio::test]
async fn a_disk_without_a_single_free_byte_fails_no_pull_and_heals_when_it_has_some() {
    let disk = Tmpfs::mount("24m");
    let upstream = Upstream::start().await;
    let contents: Vec<_> = (0..5).map(|seed| blob(100_000, 200 + seed)).collect();
    let digests: Vec<_> = contents.iter().map(|content| upstream.blob("library/app", content)).collect();
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = Mirror::builder(one(&upstream, "")).directory(storage).start().await;
    let client = mirror.client();
    client.get(&path_of(&digests[0])).await;
    quiet(&mirror).await;
    let ballast = fill_up(&disk);
    for _round in 0..3 {
        for (content, digest) in contents.iter().zip(&digests) {
            assert!(client.get(&path_of(digest)).await.body == content.to_bytes());
        }
    }
    quiet(&mirror).await;
    std::fs::remove_file(ballast).unwrap();
    mirror.advance(Duration::from_secs(31));
    for digest in &digests {
        assert_eq!(sha256(&client.get(&path_of(digest)).await.body), *digest);
        quiet(&mirror).await;
        assert_eq!(client.get(&path_of(digest)).await.header("cache-status"), "roadstead; hit");
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_in_mid_fill_fails_no_pull() {
    let disk = Tmpfs::mount("24m");
    let upstream = Upstream::start().await;
    let content = blob(12 * 1024 * 1024, 300);
    let digest = upstream.blob("library/app", &content);
    // Space is set aside for blobs of known size; this one does not tell until it is asked apart.
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().chunked().stall_after(9 * 1024 * 1024, &gate));
    upstream.script(blobs().head().once().status(405));
    upstream.script(blobs().get().ranged().once().status(403));
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = Mirror::builder(one(&upstream, "")).directory(storage).start().await;
    let (client, path) = (mirror.client(), path_of(&digest));
    let pull = tokio::spawn(async move { client.get(&path).await.body });
    gate.arrived().await;
    fill_up(&disk);
    gate.open();
    assert_eq!(pull.await.unwrap(), content.to_bytes(), "nothing had begun, so nothing was cut");
    let mut resumed = open_range(&mirror.client(), &path_of(&digest), "1000000-").await;
    let given = take(&mut resumed, 1000).await;
    assert!(given == content.slice(1_000_000, 1_000_000 + given.len() as u64));
}

/// Grants cannot be written, so that upstream is asked each time until there is space again. Nobody has to do anything.
#[tokio::test]
async fn an_index_that_cannot_grow_fails_no_pull_and_heals() {
    let disk = Tmpfs::mount("24m");
    let upstream = Upstream::start().await;
    let content = blob(100, 400);
    let digest = content.sha256();
    let storage = tempfile::tempdir_in(disk.path()).unwrap();
    let mirror = Mirror::builder(one(&upstream, "")).directory(storage).start().await;
    let client = mirror.client();
    let ballast = fill_up(&disk);
    let long = "a-name-that-takes-some-room-in-the-index-so-that-it-has-to-grow/".repeat(3);
    let mut nth = 0;
    let forgotten = loop {
        nth += 1;
        assert!(nth < 20_000, "the index has grown on a full disk");
        let repository = format!("{long}{nth}");
        upstream.blob(&repository, &content);
        let path = path_in(&repository, &digest);
        assert_eq!(client.get(&path).await.status, 200);
        upstream.forget_requests();
        assert_eq!(client.get(&path).await.status, 200);
        if !upstream.requests().is_empty() {
            break path;
        }
    };
    std::fs::remove_file(ballast).unwrap();
    mirror.advance(Duration::from_secs(31));
    let is_known = async || client.get(&forgotten).await.header("cache-status") == "roadstead; hit";
    eventually("it is noted by itself", is_known).await;
    eventually("the index is well", async || counted(&mirror, r#"roadstead_storage_healthy{part="index"}"#) == 1).await;
    upstream.forget_requests();
    assert_eq!(client.get(&forgotten).await.header("cache-status"), "roadstead; hit");
    assert!(upstream.requests().is_empty());
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get(&forgotten).await.header("cache-status"), "roadstead; hit", "durably");
}
