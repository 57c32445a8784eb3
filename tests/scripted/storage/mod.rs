//! The disk: what it may do to the mirror, and what it must not.

mod as_root;
mod clock;
mod hot;
mod kills;
mod missing;
mod not_a_file;
mod traffic;
mod verify;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::Method;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::faulty_disk::FaultyDisk;
use crate::support::image::{Image, image};
use crate::support::mirror::{Mirror, files_below, quiet};
use crate::support::upstream::*;

/// One upstream as `docker.io`.
fn one(upstream: &Upstream) -> String {
    format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", upstream.url())
}

/// A mirror whose storage is on this disk.
async fn on(disk: &FaultyDisk, upstream: &Upstream) -> Mirror {
    Mirror::builder(one(upstream)).directory(disk.directory()).start().await
}

/// An image with a small and a larger layer, published as `org/<name>:1`.
fn published(upstream: &Upstream, name: &str, seed: u64) -> Image {
    let app = image(&[blob(30_000, seed), blob(300_000, seed + 1)]);
    upstream.publish(&format!("org/{name}"), "1", &app);
    app
}

/// Pulls `org/<name>:1` as a client does, and compares every byte. A body that is cut is asked for again from where it was
/// cut, once.
async fn pull(client: &Client, name: &str, image: &Image) {
    let manifest = client.get(&format!("/v2/org/{name}/manifests/1")).await;
    assert_eq!(manifest.status, 200, "{name}: {}", manifest.text());
    assert_eq!(manifest.body, image.manifest, "{name}");
    for part in &image.blobs {
        let path = format!("/v2/org/{name}/blobs/{}", part.digest);
        let (mut bytes, mut whole) = read(client, &path, 0).await;
        if !whole {
            let (rest, complete) = read(client, &path, bytes.len()).await;
            bytes.extend(rest);
            whole = complete;
        }
        assert!(whole, "{path}: cut twice, at {} of {}", bytes.len(), part.content.size());
        assert!(bytes == part.content.to_bytes(), "{path}: wrong bytes");
    }
}

/// The bytes from there on, and whether they are all.
async fn read(client: &Client, path: &str, from: usize) -> (Vec<u8>, bool) {
    let range = format!("bytes={from}-");
    let headers = [("range", range.as_str())];
    let headers: &[(&str, &str)] = if from == 0 { &[] } else { &headers };
    // Where not even the headers were flushed, it is cut as well.
    let Ok(mut response) = client.open(Method::GET, path, headers).await else { return (Vec::new(), false) };
    let status = response.status();
    assert!(status.is_success(), "{path} from {from}: {status}");
    crate::blobs::rest(&mut response).await
}

/// Whether every part of it comes from the disk.
async fn is_held(client: &Client, name: &str, image: &Image) -> bool {
    for part in &image.blobs {
        let answer = client.head(&format!("/v2/org/{name}/blobs/{}", part.digest)).await;
        if answer.header("cache-status") != "roadstead; hit" {
            return false;
        }
    }
    true
}

/// Checks that every stored file has the digest that it is named by. The paths.
fn stored_right(storage: &Path) -> BTreeSet<PathBuf> {
    let mut stored = files_below(&storage.join("blobs"));
    // No digest: what the mirror writes to learn whether the disk works.
    stored.retain(|path| !path.ends_with("blobs/probe"));
    for path in &stored {
        let name = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
        assert_eq!(sha256(&std::fs::read(path).unwrap()), name, "a wrong byte is readable");
    }
    stored.into_iter().collect()
}
