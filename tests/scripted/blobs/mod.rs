//! Fills, readers, ranges, resume, grants: what is promised about a blob.

mod as_root;
mod coalescing;
mod fills;
mod grants;
mod heads;
mod index_loss;
mod kill;
mod lazy;
mod leftovers;
mod memory;
mod no_room;
mod passed_ranges;
pub(crate) mod process;
mod proofs;
mod ranges;
mod readers;
mod restart;
mod resume;
mod segments;
mod sending;
mod several_ranges;
mod sizes;
mod storage;
mod tail;
mod waits;

use http::Method;
use reqwest::Response;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::mirror::{Mirror, files_below, quiet};
use crate::support::upstream::*;

/// Bytes at the end that are withheld until the digest is proven.
const WITHHELD: usize = 64 * 1024;

fn path_of(digest: &str) -> String {
    path_in("library/app", digest)
}

pub(crate) fn path_in(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// One upstream as `docker.io`, with more keys.
fn one(upstream: &Upstream, keys: &str) -> String {
    format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n{keys}\n", upstream.url())
}

/// The beginning of an answer.
pub(crate) async fn open(client: &Client, path: &str) -> Response {
    client.open(Method::GET, path, &[]).await.unwrap()
}

async fn open_range(client: &Client, path: &str, range: &str) -> Response {
    client.open(Method::GET, path, &[("range", &format!("bytes={range}"))]).await.unwrap()
}

/// At least `n` bytes of the body, once they have come.
pub(crate) async fn take(response: &mut Response, n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < n {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("{} of {n} bytes came in {PATIENCE:?}", bytes.len()));
        bytes.extend_from_slice(&chunk.unwrap().expect("the body goes on"));
    }
    bytes
}

/// The rest of the body, and whether it ended as announced.
pub(crate) async fn rest(response: &mut Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, response.chunk()).await.expect("the body goes on or ends") {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, true),
            Err(_cut) => return (bytes, false),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and small")]
fn counted(mirror: &Mirror, line: &str) -> u64 {
    mirror.metric(line) as u64
}

/// Bodies that were not what they were asked for.
fn mismatches(mirror: &Mirror) -> u64 {
    counted(mirror, r#"roadstead_digest_mismatches_total{authority="docker.io"}"#)
}

fn in_flight(mirror: &Mirror) -> u64 {
    counted(mirror, "roadstead_requests_in_flight")
}

/// Files of blobs that are stored, and of downloads.
pub(crate) fn stored_files(mirror: &Mirror) -> Vec<std::path::PathBuf> {
    files_below(&mirror.storage().join("blobs"))
}

pub(crate) fn partial_files(mirror: &Mirror) -> Vec<std::path::PathBuf> {
    files_below(&mirror.storage().join("partial"))
}
