use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Bench, MIB};
use crate::client::Client;
use crate::programs::Settings;
use crate::pull::{REPOSITORY, blob_path};
use crate::report::{Figure, Unit};
use crate::support::upstream::{Content, Upstream, blob};
use crate::usage::{PeakMemory, private_kib};

const READERS: usize = 100;
/// Every so many readers, one is slow.
const ONE_SLOW_OF: usize = 5;
const SLOW_PAUSE: Duration = Duration::from_millis(200);

/// Upstream gives the blob slowly enough for all readers to be there while it comes. Some readers take much less than
/// what comes, until the fill is over.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let size = bench.scale(1024 * MIB, 32 * MIB);
    let upstream = Upstream::start().await;
    let content = blob(size, 1);
    let digest = upstream.blob(REPOSITORY, &content);
    // For each connection, so the fill takes as long or less.
    upstream.throttle(bench.scale(24 * MIB, 8 * MIB));
    let roadstead = Settings::new(bench.folder("readers"), &upstream.url(), "1m").start().await;
    let before = private_kib(roadstead.pid());
    let peak = PeakMemory::watch(roadstead.pid());
    let filled = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let is_slow = reader % ONE_SLOW_OF == 0;
            let (content, path, filled) = (content.clone(), blob_path(&digest), Arc::clone(&filled));
            tokio::spawn(read(roadstead.address, path, content, is_slow, filled))
        })
        .collect();
    // All bytes are handed over some moments before the fill is proven.
    while upstream.bytes_sent_of(&digest) < size {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let fill_took = begun.elapsed();
    filled.store(true, Ordering::Relaxed);
    for reader in readers {
        let first_byte = reader.await.expect("every reader gets the blob");
        assert!(first_byte < begun + fill_took, "a reader began after the fill was over");
    }
    let all_took = begun.elapsed();
    let peak = peak.end();
    let copies = upstream.bytes_sent_of(&digest) as f64 / size as f64;
    roadstead.stop().await;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let what = format!("{READERS} readers, one fill of {} MiB", size / MIB);
    vec![
        Figure::promised(format!("{what}: copies fetched"), copies, 1.0),
        Figure::new(format!("{what}: private memory before"), mib(before), Unit::Mebibytes),
        Figure::new(format!("{what}: private memory, peak"), mib(peak), Unit::Mebibytes),
        Figure::seconds(format!("{what}: the fill took"), fill_took),
        Figure::seconds(format!("{what}: all readers took"), all_took),
    ]
}

/// Reads the blob and compares every byte with what it is made of, which is cheaper than a hundred hashes and proves the
/// same. When the first byte came.
async fn read(from: SocketAddr, path: String, content: Content, is_slow: bool, filled: Arc<AtomicBool>) -> Instant {
    let mut client = Client::connect(from).await.expect("Roadstead accepts connections");
    let head = client.get(&path).await.expect("Roadstead answers");
    assert_eq!((head.status, head.length), (200, content.size()));
    let (mut at, mut first_byte) = (0, None);
    while let Some(mut piece) = client.piece().await.expect("a body comes to its end") {
        first_byte.get_or_insert_with(Instant::now);
        while !piece.is_empty() {
            let expected = content.piece(at, piece.len() as u64);
            let (part, rest) = piece.split_at(expected.len());
            assert!(part == expected, "wrong bytes at {at}");
            at += part.len() as u64;
            piece = rest;
        }
        if is_slow && !filled.load(Ordering::Relaxed) {
            tokio::time::sleep(SLOW_PAUSE).await;
        }
    }
    first_byte.expect("the blob is not empty")
}
