//! The cache is bounded: what is promised about quotas, eviction, pins and the last copy.

mod age;
mod as_root;
mod crash;
mod images;
mod last_copy;
mod order;
mod pins;
mod quota;
mod quotas;
mod settings;
mod undeletable;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::mirror::{Builder, Mirror, files_below, quiet};
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;
const APP: &str = "library/app";

fn upstream_named(authority: &str, upstream: &Upstream, keys: &str) -> String {
    format!("[upstreams.\"{authority}\"]\nurl = \"{}\"\n{keys}\n", upstream.url())
}

/// `docker.io` with these lines in `[storage]`.
fn bounded(upstream: &Upstream, storage: &str) -> Builder {
    Mirror::builder(upstream_named("docker.io", upstream, "tag_ttl = \"1h\"")).storage(storage)
}

fn path_of(digest: &str) -> String {
    format!("/v2/{APP}/blobs/{digest}")
}

/// Publishes so many blobs of one mebibyte each.
fn mebibytes(upstream: &Upstream, seeds: std::ops::Range<u64>) -> Vec<String> {
    seeds.map(|seed| upstream.blob(APP, blob(MIB, seed))).collect()
}

/// Pulls them one after the other, each a while after the last one.
async fn pull_all(mirror: &Mirror, digests: &[String]) {
    for digest in digests {
        let answer = mirror.client().get(&path_of(digest)).await;
        assert!(answer.status == 200 && sha256(&answer.body) == *digest);
        stored(mirror, digest).await;
        mirror.advance(Duration::from_mins(10));
    }
}

/// Resolves when what was pulled is stored.
async fn stored(mirror: &Mirror, digest: &str) {
    quiet(mirror).await;
    assert!(is_stored(&mirror.client(), digest).await, "{digest} is not stored");
}

/// Whether it is here. A HEAD starts no download, and does count as a use where it is.
async fn is_stored(client: &Client, digest: &str) -> bool {
    client.head(&path_of(digest)).await.header("cache-status").starts_with("roadstead; hit")
}

/// Whether the file is here. Counts as no use.
fn has_file(mirror: &Mirror, digest: &str) -> bool {
    file_of(mirror, digest).exists()
}

fn file_of(mirror: &Mirror, digest: &str) -> PathBuf {
    let hex = digest.split(':').nth(1).unwrap();
    mirror.storage().join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// Those of the digests whose files are here, by their place in the list.
fn kept(mirror: &Mirror, digests: &[String]) -> Vec<usize> {
    (0..digests.len()).filter(|nth| has_file(mirror, &digests[*nth])).collect()
}

/// Bytes that blobs and downloads take on the disk at one moment: what is there before and after it was there then.
fn bytes_on_disk(storage: &Path) -> u64 {
    let (before, after) = (inodes(storage), inodes(storage));
    before.iter().filter(|(inode, _)| after.contains_key(inode)).map(|(_, bytes)| bytes).sum()
}

/// Files and their sizes. One that has two names is one file.
fn inodes(storage: &Path) -> HashMap<(u64, String), u64> {
    let files = ["partial", "blobs"].into_iter().flat_map(|part| files_below(&storage.join(part)));
    let data = files.filter(|file| file.extension().is_none());
    let named = data.filter_map(|file| {
        // A number may be given to another file at once; its content's name is not.
        let hex = file.file_name()?.to_str()?.rsplit('-').next()?.to_owned();
        let metadata = file.metadata().ok()?;
        Some(((metadata.ino(), hex), metadata.len()))
    });
    named.collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and small")]
fn counted(mirror: &Mirror, line: &str) -> u64 {
    mirror.metric(line) as u64
}

fn evicted(mirror: &Mirror, reason: &str) -> u64 {
    counted(mirror, &format!("roadstead_evicted_blobs_total{{authority=\"docker.io\",reason=\"{reason}\"}}"))
}

fn used(mirror: &Mirror) -> u64 {
    counted(mirror, "roadstead_stored_bytes")
}
