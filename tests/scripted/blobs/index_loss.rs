//! The index can be lost: bytes and facts are found again without it.

use std::path::Path;

use super::{path_of, quiet};
use crate::support::image::image;
use crate::support::mirror::{Mirror, Stopped};
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

struct Held {
    upstream: Upstream,
    stopped: Stopped,
    digest: String,
}

/// A mirror that holds an image, between two lives.
async fn held() -> Held {
    let upstream = Upstream::start().await;
    let image = image(&[blob(SIZE, 1)]);
    upstream.publish("library/app", "latest", &image);
    let digest = image.layers()[0].digest.clone();
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/library/app/manifests/latest").await.status, 200);
    assert_eq!(client.get(&path_of(&digest)).await.status, 200);
    quiet(&mirror).await;
    let stopped = mirror.stop().await;
    upstream.forget_requests();
    Held { upstream, stopped, digest }
}

/// Nobody is asked whether what was held may still be read.
async fn goes_on_as_before(held: Held) -> Mirror {
    let Held { upstream, stopped, digest } = held;
    upstream.stop().await;
    let mirror = stopped.start().await;
    let client = mirror.client();
    assert!(super::counted(&mirror, "roadstead_stored_bytes") > SIZE, "the stored blobs are counted again");
    for _ in 0..2 {
        let blob = client.get(&path_of(&digest)).await;
        assert_eq!((blob.status, sha256(&blob.body)), (200, digest.clone()));
        assert_eq!(blob.header("cache-status"), "roadstead; hit");
        let manifest = client.get("/v2/library/app/manifests/latest").await;
        assert_eq!((manifest.status, manifest.header("cache-status")), (200, "roadstead; hit"));
    }
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit", "and it lasts");
    mirror
}

async fn goes_on_with_what_is_stored(held: Held) -> Mirror {
    let Held { upstream, stopped, digest } = held;
    let mirror = stopped.start().await;
    let client = mirror.client();
    assert!(super::counted(&mirror, "roadstead_stored_bytes") > SIZE, "the stored blobs are counted again");
    let blob = client.get(&path_of(&digest)).await;
    assert_eq!((blob.status, sha256(&blob.body)), (200, digest.clone()));
    assert_eq!(client.get("/v2/library/app/manifests/latest").await.status, 200);
    let shown: Vec<_> = upstream.requests_of(&blobs().get()).iter().map(Recorded::sent).collect();
    assert_eq!(shown, [64 * 1024], "whose they are is not known any more: upstream shows a part of them");
    upstream.stop().await;
    assert_eq!(client.get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit");
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit", "and it lasts");
    mirror
}

fn spoil(index: &Path, spoil: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(index).unwrap();
    spoil(&mut bytes);
    std::fs::write(index, bytes).unwrap();
}

#[tokio::test]
async fn a_missing_index_is_made_anew() {
    let held = held().await;
    std::fs::remove_file(held.stopped.storage().join("index.redb")).unwrap();
    goes_on_as_before(held).await;
}

#[tokio::test]
async fn where_the_facts_are_lost_too_the_bytes_are_proven_again() {
    let held = held().await;
    std::fs::remove_file(held.stopped.storage().join("index.redb")).unwrap();
    std::fs::remove_dir_all(held.stopped.storage().join("facts")).unwrap();
    goes_on_with_what_is_stored(held).await;
}

#[tokio::test]
async fn an_empty_index_is_made_anew() {
    let held = held().await;
    std::fs::write(held.stopped.storage().join("index.redb"), "").unwrap();
    goes_on_as_before(held).await;
}

#[tokio::test]
async fn a_damaged_index_is_set_aside_and_made_anew() {
    type Damage = fn(&mut Vec<u8>);
    // A slot of the header begins with the version of the form.
    let damages: [(&str, Damage); 6] = [
        ("an older form of redb", |bytes| (bytes[64], bytes[192]) = (1, 1)),
        ("a form of redb to come", |bytes| (bytes[64], bytes[192]) = (200, 200)),
        ("garbage", |bytes| *bytes = b"This is no database. ".repeat(1000)),
        ("cut to its first page", |bytes| bytes.truncate(4096)),
        ("cut in the middle", |bytes| bytes.truncate(bytes.len() / 2)),
        ("zeros behind the header", |bytes| bytes[4096..].fill(0)),
    ];
    for (what, damage) in damages {
        let held = held().await;
        let index = held.stopped.storage().join("index.redb");
        spoil(&index, damage);
        let _running = goes_on_as_before(held).await;
        // Trying to read it may have changed it; nobody throws it away.
        let kept = std::fs::metadata(index.with_extension("redb.damaged"));
        assert!(kept.is_ok_and(|kept| kept.len() > 0), "{what}");
    }
}
