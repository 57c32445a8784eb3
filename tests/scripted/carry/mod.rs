//! Carrying images to where no network leads: export, import, receipts, jobs.

mod as_root;
mod bombs;
mod bundles;
mod kills;
mod named;
mod roundtrip;
mod warm;

use std::path::Path;
use std::process::Output;

use crate::facts::backup;
use crate::support::eventually;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// An image of two layers, `seed` makes its bytes.
fn app(seed: u64) -> Image {
    image(&[blob(200_000, seed), blob(3000, seed + 1)])
}

/// A mirror that holds `org/app:1` and `org/app:2`, whole.
async fn site() -> (Upstream, Mirror, Image, Image) {
    let registry = Upstream::start().await;
    let (one, two) = (app(10), app(20));
    registry.publish("org/app", "1", &one);
    registry.publish("org/app", "2", &two);
    let mirror = Mirror::of("docker.io", registry.url()).await;
    pull(&mirror, "org/app", "1", &one).await;
    pull(&mirror, "org/app", "2", &two).await;
    (registry, mirror, one, two)
}

/// Pulls an image, and waits until its manifest is stored, too: answers do not wait for the disk.
async fn pull(mirror: &Mirror, repository: &str, reference: &str, image: &Image) {
    mirror.pull_whole(repository, reference).await;
    stored(mirror, image).await;
}

async fn stored(mirror: &Mirror, image: &Image) {
    let (index, digest) = (&mirror.inner().cache().index, image.digest.parse().unwrap());
    eventually("the manifest is stored", async || matches!(index.blob_row(digest).await, Ok(Some(_)))).await;
}

/// A mirror that asks nobody.
async fn island() -> Mirror {
    Mirror::start("[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n").await
}

/// The command on the machine of a mirror.
async fn at(mirror: &Mirror, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let config = backup::config(directory.path(), &mirror.storage());
    backup::run(&config, arguments).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The lines of `--json`: those of items, and the last one.
fn lines(output: &Output) -> (Vec<serde_json::Value>, serde_json::Value) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap_or_else(|| panic!("{}", backup::said(output)));
    assert_eq!(last["done"], true, "{text}");
    (lines, last)
}

/// Everything of an image is served.
async fn assert_served(mirror: &Mirror, repository: &str, reference: &str, image: &Image) {
    let client = mirror.client();
    let manifest = client.get(&format!("/v2/{repository}/manifests/{reference}")).await;
    assert_eq!((manifest.status, sha256(&manifest.body)), (200, image.digest.clone()), "{}", manifest.text());
    for blob in &image.blobs {
        let answer = client.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await;
        assert_eq!((answer.status, sha256(&answer.body)), (200, blob.digest.clone()));
    }
}

async fn assert_nothing_of(mirror: &Mirror, repository: &str, image: &Image) {
    let client = mirror.client();
    let manifest = client.get(&format!("/v2/{repository}/manifests/{}", image.digest)).await;
    assert_eq!(manifest.status, 404);
    for blob in &image.blobs {
        assert_eq!(client.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await.status, 404);
    }
}

/// A POST over the admin socket, as a command sends it. Blocking.
fn post(socket: &Path, path: &str, body: &str) -> serde_json::Value {
    request(socket, "POST", path, body)
}

fn request(socket: &Path, method: &str, path: &str, body: &str) -> serde_json::Value {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    );
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}
