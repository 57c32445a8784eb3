//! A storage that has seen many blobs.

use std::io::Write as _;
use std::path::Path;

use roadstead::clock::Timestamp;
use roadstead::health::Health;
use roadstead::index::{Aging, BlobRow, Change, GrantBlob, Index, Opened, PutBlob, Scope, UseGrant};
use roadstead::oci::{Algorithm, Digest};

use crate::pull::REPOSITORY;

/// Changes of one transaction.
const BATCH: usize = 40_000;
/// Of every blob: its number.
const SIZE_BYTES: u64 = 8;
/// Later than any day of a run, so that no row has expired and none is written anew when it is used.
const DAY: u64 = 1_000_000;

/// Writes `blobs` blobs and as many grants into the index of a storage that nobody uses. The files need not exist: a
/// row without a file is a miss.
pub(super) async fn write(storage: &Path, blobs: u64) {
    let scope = scope(REPOSITORY);
    let digests = digests(blobs);
    let grants = digests.iter().map(|digest| grant(&scope, *digest, DAY));
    apply_all(storage, digests.iter().map(|digest| row(&scope, *digest)).chain(grants)).await;
}

/// Writes `blobs` blobs, each granted in so many repositories, each of which may read so many of them.
pub(crate) async fn write_shared(storage: &Path, blobs: u64, grants: u64, to_each: u64) {
    let digests = digests(blobs);
    let first = scope(&repository(0));
    let rows = digests.iter().map(|digest| row(&first, *digest));
    let grants = (0..grants / to_each).flat_map(|nth| {
        let scope = scope(&repository(nth));
        of_repository(&digests, nth, to_each).map(move |digest| grant(&scope, digest, DAY)).collect::<Vec<_>>()
    });
    apply_all(storage, rows.chain(grants)).await;
}

/// A file for each of so many blobs, of the size that its row tells. Only the one of [`one_path`] has its bytes.
pub(super) fn write_files(storage: &Path, blobs: u64) {
    let folder = storage.join("blobs").join(Algorithm::Sha256.name());
    let with_bytes = digests(blobs).into_iter().next();
    for nth in 0..blobs {
        let digest = digest(nth);
        let hex = digest.hex();
        let shard = folder.join(hex.get(..2).unwrap_or_default());
        std::fs::create_dir_all(&shard).expect("the storage is writable");
        let mut file = std::fs::File::create_new(shard.join(hex)).expect("the storage is writable");
        if Some(digest) == with_bytes {
            file.write_all(&nth.to_le_bytes()).expect("the storage is writable");
        } else {
            file.set_len(SIZE_BYTES).expect("the storage is writable");
        }
    }
}

/// Where one of the blobs of [`write_shared`] can be read.
pub(super) fn one_path(blobs: u64) -> String {
    let digests = digests(blobs);
    let digest = of_repository(&digests, 0, 1).next().expect("there is a blob");
    format!("/v2/{}/blobs/{digest}", repository(0))
}

/// The use of so many grants, spread over all that [`write_shared`] has written.
pub(crate) fn uses(blobs: u64, grants: u64, to_each: u64, many: u64) -> Vec<Change> {
    let digests = digests(blobs);
    let repositories = grants / to_each;
    let of_nth = |nth: u64| {
        let repository_number = nth * repositories / many;
        let scope = scope(&repository(repository_number));
        let digest = of_repository(&digests, repository_number, to_each).nth(usize::try_from(nth % to_each).ok()?)?;
        Some(Change::from(UseGrant { scope, whole_authority: false, digest, table: Aging::BlobGrants, day: DAY + 1 }))
    };
    (0..many).filter_map(of_nth).collect()
}

/// Neighbours, from another one on in each repository: they are together in the index too.
fn of_repository(digests: &[Digest], nth: u64, to_each: u64) -> impl Iterator<Item = Digest> + '_ {
    let first = usize::try_from(nth.wrapping_mul(7919 * to_each) % digests.len() as u64).unwrap_or(0);
    let many = usize::try_from(to_each).unwrap_or(0);
    digests.iter().cycle().skip(first).take(many).copied()
}

fn repository(nth: u64) -> String {
    format!("team-{nth:06}/app")
}

/// In the order of the index.
fn digests(many: u64) -> Vec<Digest> {
    let mut digests: Vec<_> = (0..many).map(digest).collect();
    digests.sort_unstable();
    digests
}

fn digest(nth: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &nth.to_le_bytes())
}

fn scope(repository: &str) -> Scope {
    Scope {
        domain: 0,
        authority: "docker.io".parse().expect("an authority"),
        repository: repository.parse().expect("a repository"),
    }
}

fn row(scope: &Scope, digest: Digest) -> Change {
    let stored = Timestamp::from_millis(0);
    Change::from(PutBlob {
        digest,
        row: BlobRow { size_bytes: SIZE_BYTES, origin: Some(scope.authority.clone()), stored },
    })
}

fn grant(scope: &Scope, digest: Digest, day: u64) -> Change {
    Change::from(GrantBlob { scope: scope.clone(), whole_authority: false, digest, day })
}

async fn apply_all(storage: &Path, changes: impl Iterator<Item = Change>) {
    let (index, _) = open(storage);
    let mut changes = changes.peekable();
    while changes.peek().is_some() {
        index.apply(changes.by_ref().take(BATCH).collect()).await.expect("the index takes facts");
    }
    index.close().await;
}

/// The index of a storage that nobody uses.
pub(crate) fn open(storage: &Path) -> (Index, Opened) {
    Index::open(storage, Health::default(), Timestamp::default(), &|_| Ok(()))
        .expect("the index of a stopped mirror opens")
}
