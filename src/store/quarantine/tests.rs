use bytes::Bytes;

use super::super::{Checked, SpaceLimits, Verified};
use super::*;
use crate::file_blocks::{BLOCK, in_blocks};
use crate::oci::Algorithm;

const CONTENT: &[u8] = b"what was stored, and is to stay so";
const NOW: Timestamp = Timestamp::from_millis(40 * 86_400_000);

struct Storage {
    directory: tempfile::TempDir,
    store: Store,
    digest: Digest,
}

impl Storage {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), SpaceLimits::default()).unwrap();
        let storage = Self { directory, store, digest: Digest::of(Algorithm::Sha256, CONTENT) };
        storage.put().await;
        storage
    }

    async fn put(&self) {
        let put = self.store.put(&"a.test".parse().unwrap(), self.digest, Bytes::from_static(CONTENT)).await;
        put.unwrap().unwrap().unlink_partial().await.unwrap();
    }

    /// Turns its bytes over, in the file that is there.
    fn rot(&self) {
        std::fs::write(self.store.layout.blob(self.digest), vec![b'x'; CONTENT.len()]).unwrap();
    }

    async fn wrong(&self) -> FileId {
        let mut scrub = super::super::scrub::begin(&self.store, self.digest).await.unwrap();
        loop {
            match scrub.step().await {
                Ok(_) => {}
                Err(Checked::Wrong(_, file_id)) => return file_id,
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn kept(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("quarantine")).map_or(0, Iterator::count)
    }
}

#[tokio::test]
async fn a_wrong_file_is_taken_away_and_counts_until_room_is_needed() {
    let storage = Storage::new().await;
    let Storage { store, digest, directory } = &storage;
    storage.rot();
    let wrong = storage.wrong().await;
    assert_eq!(move_away(store, *digest, wrong.clone(), NOW).await.unwrap(), QuarantineOutcome::Away);
    assert_eq!(move_away(store, *digest, wrong, NOW).await.unwrap(), QuarantineOutcome::Missing);
    let size = CONTENT.len() as u64;
    let taken = in_blocks(size);
    assert_eq!((storage.kept(), store.used_bytes(), list(store).unwrap()), (1, taken, vec![(*digest, size)]));
    storage.put().await;
    assert_eq!((store.used_bytes(), store.quarantined_bytes()), (2 * taken, taken));
    assert_eq!((free(store, 1).await, storage.kept(), store.used_bytes()), (size, 0, taken));
    // What an operator takes away is noticed.
    std::fs::write(directory.path().join(format!("quarantine/{:013}-sha256-x", NOW.as_millis())), "xyz").unwrap();
    recount(store, NOW).await.unwrap();
    assert_eq!(store.used_bytes(), taken + in_blocks(3));
}

#[tokio::test]
async fn a_wrong_file_that_cannot_be_moved_is_removed_and_that_is_told() {
    let storage = Storage::new().await;
    let Storage { store, digest, directory } = &storage;
    storage.rot();
    std::fs::write(directory.path().join("quarantine"), "no directory").unwrap();
    assert_eq!(move_away(store, *digest, storage.wrong().await, NOW).await.unwrap(), QuarantineOutcome::Removed);
    assert_eq!((store.used_bytes(), store.quarantined_bytes()), (0, 0));
    assert!(matches!(store.open_blob(*digest).await, Ok(None)));
}

/// Whoever found the bytes wrong had opened the file before it was fetched again.
#[tokio::test]
async fn a_file_that_was_fetched_again_meanwhile_is_left_alone() {
    let storage = Storage::new().await;
    let Storage { store, digest, .. } = &storage;
    storage.rot();
    let wrong = storage.wrong().await;
    store.remove(*digest).await.unwrap();
    storage.put().await;
    assert_eq!(move_away(store, *digest, wrong, NOW).await.unwrap(), QuarantineOutcome::Another);
    assert!(matches!(store.read_verified(*digest, 1000).await.unwrap(), Verified::Right(_)));
    assert_eq!((storage.kept(), store.used_bytes()), (0, in_blocks(CONTENT.len() as u64)));
}

#[tokio::test]
async fn a_file_that_was_moved_by_mistake_is_put_back() {
    let storage = Storage::new().await;
    let Storage { store, digest, directory } = &storage;
    let (blob, away) = (store.layout.blob(*digest), directory.path().join("away"));
    for stored_again in [false, true] {
        std::fs::rename(&blob, &away).unwrap();
        if stored_again {
            storage.put().await;
        }
        put_back(&away, &blob, &store.space, *digest, CONTENT.len() as u64).unwrap();
        assert!(matches!(store.read_verified(*digest, 1000).await.unwrap(), Verified::Right(_)) && !away.exists());
        assert_eq!(store.used_bytes(), in_blocks(CONTENT.len() as u64));
    }
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_they_are_too_old() {
    let directory = tempfile::tempdir().unwrap();
    let space = Space::new(directory.path().to_owned(), SpaceLimits::default());
    let name = |nth: u64| format!("{:013}-sha256-{nth}", NOW.as_millis() - 1000 + nth);
    for nth in 0..120 {
        std::fs::write(directory.path().join(name(nth)), "x").unwrap();
    }
    std::fs::write(directory.path().join(format!("{:013}-sha256-old", 1)), "x").unwrap();
    count(directory.path(), &space).unwrap();
    assert_eq!(space.used(), 121 * BLOCK);
    thin_out(directory.path(), NOW, &space).unwrap();
    let left = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!((left(), space.used()), (MAX_FILES, MAX_FILES as u64 * BLOCK));
    assert!(!directory.path().join(name(19)).exists() && directory.path().join(name(20)).exists());
    thin_out(directory.path(), NOW.plus(MAX_AGE + Duration::from_secs(2)), &space).unwrap();
    assert_eq!((left(), space.used()), (0, 0));
}
