//! Storage that cannot be used says why; storage that can still be read is.

use std::process::{Command, Output};

use rustix::io::Errno;

use crate::storage::{is_held, on, one, published, pull};
use crate::support::faulty_disk::*;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Runs the real program on this disk, which it must refuse; what it says.
async fn refused(disk: &FaultyDisk) -> String {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    serve.arg("serve").env_clear().env("ROADSTEAD__STORAGE__PATH", disk.path().join("data"));
    serve.env("ROADSTEAD__SERVER__LISTEN", "127.0.0.1:0").env("ROADSTEAD__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
    let output: Output = tokio::task::spawn_blocking(move || serve.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_new_storage_that_cannot_be_written_is_refused_with_the_reason() {
    let full = FaultyDisk::mount();
    full.is_full();
    let said = refused(&full).await;
    assert!(said.contains("data cannot be used") && said.contains("make some room on the disk"), "{said}");
    let read_only = FaultyDisk::mount();
    read_only.read_only();
    let said = refused(&read_only).await;
    assert!(said.contains("data cannot be used") && said.contains("mounted read-only"), "{said}");
    let denied = FaultyDisk::mount();
    denied.fails(Fault::on_any().with(Errno::ACCESS).always());
    let said = refused(&denied).await;
    assert!(said.contains("data cannot be used") && said.contains("belong to the user"), "{said}");
}

#[tokio::test]
async fn a_storage_on_a_full_disk_starts_and_serves_what_it_holds() {
    let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
    let (held, new) = (published(&upstream, "held", 1), published(&upstream, "new", 10));
    let directory = disk.directory();
    let storage = directory.path().to_owned();
    let mirror = Mirror::builder(one(&upstream)).directory(directory).start().await;
    mirror.pull_whole("org/held", "1").await;
    let stopped = mirror.stop().await;
    assert!(storage.join("data/LOCK").exists());
    disk.is_full();
    let mirror = stopped.start().await;
    assert!(is_held(&mirror.client(), "held", &held).await);
    pull(&mirror.client(), "held", &held).await;
    pull(&mirror.client(), "new", &new).await;
}

#[tokio::test]
async fn permission_that_is_lost_or_a_disk_that_turns_read_only_while_running_fails_no_pull() {
    for lost in [true, false] {
        let (disk, upstream) = (FaultyDisk::mount(), Upstream::start().await);
        let (held, new) = (published(&upstream, "held", 1), published(&upstream, "new", 10));
        let mirror = on(&disk, &upstream).await;
        mirror.pull_whole("org/held", "1").await;
        if lost {
            disk.fails(Fault::on_any().at("/data/").with(Errno::ACCESS).always());
        } else {
            disk.read_only();
        }
        for _round in 0..2 {
            pull(&mirror.client(), "held", &held).await;
            pull(&mirror.client(), "new", &new).await;
        }
        assert_eq!(mirror.metric(r#"roadstead_storage_healthy{part="store_writes"}"#), 0.0, "lost: {lost}");
    }
}
