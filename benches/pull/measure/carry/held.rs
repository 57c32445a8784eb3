//! A storage with many repositories, each with a tag, an image, and its blobs.

use std::path::Path;

use roadstead::clock::Timestamp;
use roadstead::index::{BlobRow, Change, GrantBlob, GrantManifest, PutBlob, PutChildren, PutTag, Scope, TagRow};
use roadstead::oci::{Digest, MediaType};

use crate::measure::rows;
use crate::support::image::{OCI_MANIFEST, image};
use crate::support::upstream::blob;

/// Images of one transaction: each has some hundred facts.
const BATCH: u64 = 200;
const LAYER_BYTES: u64 = 8;

/// The name of one repository.
pub(super) fn repository(nth: u64) -> String {
    format!("team-{:03}/app-{nth:06}", nth % 100)
}

/// Writes so many repositories with an image of so many blobs each: facts, and the files of manifests. No other file
/// exists: what looks at facts does not miss them.
pub(super) async fn write(storage: &Path, repositories: u64, blobs: u64) {
    let (index, _) = rows::open(storage);
    let now = Timestamp::from_millis(u64::from(u32::MAX) * 1000);
    for first in (0..repositories).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let some = first..(first + BATCH).min(repositories);
        let changes = some.flat_map(|nth| one(storage, nth, blobs, now)).collect();
        index.apply(changes).await.expect("the index takes facts");
    }
    index.close().await;
}

fn one(storage: &Path, nth: u64, blobs: u64, now: Timestamp) -> Vec<Change> {
    let scope = Scope {
        domain: 0,
        authority: "docker.io".parse().expect("an authority"),
        repository: repository(nth).parse().expect("a repository"),
    };
    let layers: Vec<_> = (1..blobs).map(|layer| blob(LAYER_BYTES, nth * blobs + layer)).collect();
    let image = image(&layers);
    let digest: Digest = image.digest.parse().expect("a digest");
    write_file(storage, digest, &image.manifest);
    let origin = Some(scope.authority.clone());
    let put = |digest, size_bytes| PutBlob { digest, row: BlobRow { size_bytes, origin: origin.clone(), stored: now } };
    let (day, media_type) = (now.day(), MediaType::parse(OCI_MANIFEST).expect("a type"));
    let listed: Vec<(Digest, u64)> =
        image.blobs.iter().map(|blob| (blob.digest.parse().expect("a digest"), blob.content.size())).collect();
    let children = listed.iter().map(|(digest, _)| *digest).collect();
    let mut changes: Vec<Change> = vec![
        put(digest, image.manifest.len() as u64).into(),
        PutChildren { manifest: digest, children }.into(),
        GrantManifest { scope: scope.clone(), whole_authority: false, digest, media_type, day }.into(),
        PutTag { scope: scope.clone(), tag: "1".parse().expect("a tag"), row: TagRow::moved_to(None, digest, now) }
            .into(),
    ];
    for (digest, size_bytes) in listed {
        changes.push(put(digest, size_bytes).into());
        changes.push(GrantBlob { scope: scope.clone(), whole_authority: false, digest, day }.into());
    }
    changes
}

fn write_file(storage: &Path, digest: Digest, content: &[u8]) {
    let hex = digest.hex();
    let shard = storage.join("blobs").join(digest.algorithm().name()).join(hex.get(..2).unwrap_or_default());
    std::fs::create_dir_all(&shard).and_then(|()| std::fs::write(shard.join(hex), content)).expect("it is writable");
}
