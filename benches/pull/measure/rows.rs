//! A storage that has seen a million blobs.

use std::path::Path;

use roadstead::clock::Timestamp;
use roadstead::health::Health;
use roadstead::index::{BlobRow, Change, Index, Scope};
use roadstead::oci::{Algorithm, Digest};

use super::MIB;
use crate::pull::REPOSITORY;

const BATCH: u64 = 20_000;

/// Writes `blobs` blobs and as many grants into the index of a storage that nobody uses. The files need not exist: a
/// row without a file is a miss.
pub(super) async fn write(storage: &Path, blobs: u64) {
    let (index, _) = Index::open(storage, Health::default(), Timestamp::default(), &|_| Ok(()))
        .expect("the index of a stopped mirror opens");
    let scope = Scope {
        domain: 0,
        authority: "docker.io".parse().expect("an authority"),
        repository: REPOSITORY.parse().expect("a repository"),
    };
    let mut next = 0;
    while next < blobs {
        let end = blobs.min(next + BATCH);
        let mut digests: Vec<_> = (next..end).map(|n| Digest::of(Algorithm::Sha256, &n.to_le_bytes())).collect();
        // Neighbours share pages of the index.
        digests.sort_unstable();
        let changes = digests.into_iter().flat_map(|digest| facts(&scope, digest)).collect();
        index.apply(changes).await.expect("the index takes facts");
        next = end;
    }
    index.close().await;
}

fn facts(scope: &Scope, digest: Digest) -> [Change; 2] {
    let row =
        BlobRow { size_bytes: MIB / 64, origin: Some(scope.authority.clone()), stored: Timestamp::from_millis(0) };
    // Used lately, so that it has not expired.
    let day = 1_000_000;
    [Change::PutBlob { digest, row }, Change::GrantBlob { scope: scope.clone(), whole_authority: false, digest, day }]
}
