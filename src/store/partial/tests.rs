use tempfile::TempDir;

use super::super::SpaceLimits;
use super::*;
use crate::file_blocks::in_blocks;
use crate::oci::{Algorithm, Authority};
use crate::store::{Store, StoredBlob};

const CONTENT: &[u8] = b"what a blob holds";

struct Nobody;

impl Progress for Nobody {
    fn wrote(&self, _by: u32, range: std::ops::Range<u64>) -> u64 {
        range.end
    }
}

struct Stored {
    _directory: TempDir,
    store: Store,
    authority: Authority,
    digest: Digest,
}

impl Stored {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), SpaceLimits::default()).unwrap();
        let digest = Digest::of(Algorithm::Sha256, CONTENT);
        Self { _directory: directory, store, authority: "a.test".parse().unwrap(), digest }
    }

    async fn begin(&self) -> PartialFile {
        self.store.begin(&self.authority, self.digest).await.unwrap()
    }

    async fn write(&self) -> Committed {
        let mut partial_file = self.begin().await;
        partial_file.reserve("docker.io", CONTENT.len() as u64).await.unwrap();
        partial_file.append(Bytes::from_static(CONTENT)).await.unwrap();
        partial_file.commit(None).await.unwrap()
    }

    fn on_disk(&self) -> Vec<u8> {
        std::fs::read(self.store.layout.blob(self.digest)).unwrap()
    }
}

/// The second one made the name anew, and the first one linked what the second had not yet written.
#[tokio::test]
async fn t17_who_writes_the_same_blob_waits_for_whoever_began() {
    let stored = Stored::open();
    let mut first = stored.begin().await;
    first.append(Bytes::from_static(CONTENT)).await.unwrap();
    let mut second = std::pin::pin!(stored.begin());
    let began = tokio::time::timeout(std::time::Duration::from_millis(50), second.as_mut()).await;
    let committed = first.commit(None).await.unwrap();
    assert_eq!(stored.on_disk(), CONTENT);
    assert!(began.is_err(), "a name has one user");
    committed.unlink_partial().await.unwrap();
    second.await.discard().await.unwrap();
    assert_eq!(stored.on_disk(), CONTENT);
}

/// The index could not record the blob, so its partial name stays; the next fill finds it.
#[tokio::test]
async fn a_stored_blob_is_never_opened_for_writing() {
    let stored = Stored::open();
    let committed = stored.write().await;
    let sidecar = serde_json::to_vec(&Sidecar { size_bytes: None, synced_bytes: 5 }).unwrap();
    std::fs::write(layout::sidecar(&committed.partial), sidecar).unwrap();
    drop(committed);
    let (mut partial_file, left, _) = stored.store.resume(&stored.authority, stored.digest).await.unwrap();
    assert_eq!(left, 0);
    partial_file.append(Bytes::from_static(b"something else")).await.unwrap();
    assert_eq!(stored.on_disk(), CONTENT);
    assert!(matches!(partial_file.commit(None).await, Err(CommitError::Mismatch { .. })));
}

#[tokio::test]
async fn t18_proven_bytes_take_the_place_of_what_has_rotted_and_are_counted_once() {
    let stored = Stored::open();
    stored.write().await.unlink_partial().await.unwrap();
    let Some(StoredBlob::File(reader, _)) = stored.store.open_blob(stored.digest).await.unwrap() else {
        panic!("it is a file")
    };
    let blob = stored.store.layout.blob(stored.digest);
    // As a disk would: the same file, other bytes.
    std::fs::write(&blob, vec![0; CONTENT.len()]).unwrap();
    stored.write().await.unlink_partial().await.unwrap();
    assert_eq!(stored.on_disk(), CONTENT);
    assert_eq!(stored.store.used_bytes(), in_blocks(CONTENT.len() as u64));
    assert_eq!(reader.read(0, CONTENT.len()).await.unwrap(), vec![0; CONTENT.len()], "who has it open keeps it");
}

#[tokio::test]
async fn what_a_fill_left_is_taken_up_and_counted_all_the_while() {
    let stored = Stored::open();
    let mut partial_file = stored.begin().await;
    partial_file.append(Bytes::from_static(&CONTENT[..5])).await.unwrap();
    partial_file.keep(Some(CONTENT.len() as u64), 5, 5).await.unwrap();
    assert_eq!(stored.store.used_bytes(), in_blocks(5));
    let (partial_file, left, size_bytes) = stored.store.resume(&stored.authority, stored.digest).await.unwrap();
    assert_eq!((left, size_bytes), (5, Some(CONTENT.len() as u64)));
    partial_file.leave(left);
    assert_eq!(stored.store.used_bytes(), in_blocks(5));
    let (mut partial_file, left, _) = stored.store.resume(&stored.authority, stored.digest).await.unwrap();
    let pipeline = partial_file.pipeline(Box::new(Nobody)).unwrap();
    pipeline.hash_up_to(left);
    pipeline.rests().await.unwrap();
    partial_file.put_back(pipeline.end().await.unwrap());
    partial_file.append(Bytes::from_static(&CONTENT[5..])).await.unwrap();
    partial_file.commit(None).await.unwrap();
    assert_eq!(stored.on_disk(), CONTENT);
}

#[tokio::test]
async fn what_is_there_and_whole_is_not_written_again() {
    let stored = Stored::open();
    let put = || stored.store.put(&stored.authority, stored.digest, Bytes::from_static(CONTENT));
    put().await.unwrap().expect("it was not there").unlink_partial().await.unwrap();
    assert!(put().await.unwrap().is_none());
    std::fs::write(stored.store.layout.blob(stored.digest), vec![0; CONTENT.len()]).unwrap();
    assert!(put().await.unwrap().is_some());
    assert_eq!(stored.on_disk(), CONTENT);
    assert_eq!(stored.store.used_bytes(), in_blocks(CONTENT.len() as u64));
}
