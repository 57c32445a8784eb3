//! Facts on a disk of the test's own: takes root and `/dev/fuse`.

use roadstead::jobs::{add_pins, list_pins};

use super::lose_the_index;
use crate::support::eventually;
use crate::support::faulty_disk::{Fault, FaultyDisk, Op};
use crate::support::mirror::Mirror;

/// Its line was written, and is not known to be on the disk.
#[tokio::test]
async fn a_pin_whose_sync_failed_is_not_made_later() {
    let disk = FaultyDisk::mount();
    let mirror = Mirror::builder("").directory(disk.directory()).start().await;
    let add = async |mirror: &Mirror, pin: &str| add_pins(mirror.inner(), &[pin.to_owned()]).await;
    let pins = async |mirror: &Mirror| {
        let pins = list_pins(mirror.inner()).await.unwrap();
        pins.into_iter().map(|pin| pin.pattern.as_str().to_owned()).collect::<Vec<_>>()
    };
    add(&mirror, "docker.io/org/kept").await.unwrap();
    disk.fails(Fault::on(Op::Sync).at("facts").always());
    add(&mirror, "docker.io/org/app").await.unwrap_err();
    assert_eq!(pins(&mirror).await, ["docker.io/org/kept"]);
    disk.heals();
    eventually("it heals", async || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#) == 1.0).await;
    add(&mirror, "docker.io/org/late").await.unwrap();
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(pins(&mirror).await, ["docker.io/org/kept", "docker.io/org/late"]);
}
