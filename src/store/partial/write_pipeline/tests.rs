use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::oci::{Algorithm, Digest};
use crate::store::{PartialFile, SpaceLimits, Store};

/// By whom the piece is that nobody can be told of.
const CURSED: u32 = 13;

/// Starts and ends of what was written.
#[derive(Default)]
struct Written(Mutex<BTreeMap<u64, u64>>);

impl Progress for Written {
    fn wrote(&self, by: u32, range: Range<u64>) -> u64 {
        assert_ne!(by, CURSED);
        let mut written = self.0.lock().unwrap();
        written.insert(range.start, range.end);
        written.iter().fold(0, |prefix, (start, end)| if *start == prefix { *end } else { prefix })
    }
}

struct Partial {
    _directory: TempDir,
    file: PartialFile,
    content: Bytes,
}

impl Partial {
    async fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), SpaceLimits::default()).unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
        let digest = Digest::of(Algorithm::Sha256, &content);
        let file = store.begin(&"a.test".parse().unwrap(), digest).await.unwrap();
        Self { _directory: directory, file, content: content.into() }
    }

    fn pipeline(&mut self) -> WritePipeline {
        self.file.pipeline(Box::new(Written::default())).unwrap()
    }

    fn piece(&self, range: Range<usize>) -> (u64, Vec<Bytes>) {
        let middle = range.start.midpoint(range.end);
        (range.start as u64, vec![self.content.slice(range.start..middle), self.content.slice(middle..range.end)])
    }

    async fn ends(&mut self, pipeline: WritePipeline) {
        while pipeline.hashed() < self.content.len() as u64 {
            pipeline.rests().await.unwrap();
        }
        self.file.put_back(pipeline.end().await.unwrap());
        self.file.prove(Some(self.content.len() as u64)).unwrap();
    }
}

#[tokio::test]
async fn pieces_in_any_order_have_the_digest_of_the_whole() {
    let mut partial = Partial::begin().await;
    let pipeline = partial.pipeline();
    for range in [2_000_000..2_500_000, 0..700_000, 700_001..2_000_000, 2_500_000..3_000_000, 700_000..700_001] {
        let (at, chunks) = partial.piece(range);
        pipeline.write(1, at, chunks).await.unwrap();
    }
    partial.ends(pipeline).await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_all_the_same() {
    let mut partial = Partial::begin().await;
    let pipeline = partial.pipeline();
    for range in [0..1_000_000, 1_000_000..3_000_000] {
        let (at, chunks) = partial.piece(range);
        drop(pipeline.write(1, at, chunks));
    }
    partial.ends(pipeline).await;
}

#[tokio::test]
async fn one_that_breaks_down_leaves_nobody_waiting() {
    let mut partial = Partial::begin().await;
    let pipeline = partial.pipeline();
    let (at, chunks) = partial.piece(0..10);
    let (cursed, queued) = (pipeline.write(CURSED, at, chunks.clone()), pipeline.write(1, 10, chunks.clone()));
    assert!(cursed.await.is_err());
    assert!(queued.await.is_err());
    assert!(pipeline.rests().await.is_err());
    assert!(pipeline.write(1, 20, chunks).await.is_err());
    assert!(pipeline.end().await.is_none());
    assert!(partial.file.prove(None).is_err());
}

#[tokio::test]
async fn bytes_that_cannot_be_read_back_are_an_error_and_no_digest() {
    let mut partial = Partial::begin().await;
    let pipeline = partial.pipeline();
    pipeline.hash_up_to(1);
    assert_eq!(pipeline.rests().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "the file is empty");
    let (at, chunks) = partial.piece(0..10);
    let refused = pipeline.write(1, at, chunks).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof, "everybody is told why");
    assert!(pipeline.end().await.is_none());
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let [ended, other] = [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().build().unwrap());
    let mut partial = ended.block_on(Partial::begin());
    let (pipeline, (at, chunks)) = (partial.pipeline(), partial.piece(0..10));
    let handle = ended.handle().clone();
    ended.shutdown_background();
    let written = {
        let _context = handle.enter();
        pipeline.write(1, at, chunks)
    };
    assert!(other.block_on(written).is_err());
    assert!(other.block_on(pipeline.end()).is_none());
}
