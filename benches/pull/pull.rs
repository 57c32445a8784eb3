//! What clients do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roadstead::oci::{Algorithm, Hasher};

use super::client::Client;

/// The repository that everything is in, wherever it is served from.
pub(crate) const REPOSITORY: &str = "library/app";

pub(crate) fn blob_path(digest: &str) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

pub(crate) fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// Pulls on a new connection and compares what came with the digest.
pub(crate) async fn verified(from: SocketAddr, path: &str, digest: &str) {
    let mut client = Client::connect(from).await.expect("the server accepts connections");
    let head = client.get(path).await.expect("the server answers");
    if head.status != 200 {
        let text = client.text().await.unwrap_or_default();
        assert_eq!(head.status, 200, "{path} from {from}: {text}");
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    while let Some(piece) = client.piece().await.expect("a body comes to its end") {
        hasher.update(piece);
    }
    assert_eq!(hasher.finish().to_string(), digest, "{path} from {from}");
}

/// Asks once, on a new connection, and says what the status was and how long the whole answer took.
pub(crate) async fn asked(from: SocketAddr, path: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let mut client = Client::connect(from).await.expect("the server accepts connections");
    let head = client.get(path).await.expect("the server answers");
    client.discard().await.expect("a body comes to its end");
    (head.status, begun.elapsed())
}
