use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Bench, MIB, rows};
use crate::client::Client;
use crate::programs::{Roadstead, Settings, Started};
use crate::pull::{REPOSITORY, blob_path};
use crate::report::{Figure, Unit, median_time};
use crate::support::upstream::{Upstream, blob};

const STARTS: usize = 5;
const CLIENTS: usize = 16;

/// Starts on an empty storage, on one with many rows after an orderly stop, and on that after `kill -9` amid writes.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let rows = bench.scale(1_000_000, 10_000);
    let upstream = Upstream::start().await;
    let mut empty = Vec::new();
    for start in 0..STARTS {
        let settings = Settings::new(bench.folder(&format!("start-{start}")), &upstream.url(), "1m");
        let (roadstead, started) = settings.start_timed().await;
        roadstead.stop().await;
        empty.push(started);
    }

    let settings = Settings::new(bench.folder("start"), &upstream.url(), "1m");
    let mut settings = settings.start().await.stop().await;
    rows::write(&settings.storage(), rows).await;
    let index = std::fs::metadata(settings.storage().join("index.redb")).expect("the index is there").len();
    let (mut stopped, mut killed) = (Vec::new(), Vec::new());
    for start in 0..STARTS {
        let (roadstead, started) = settings.start_timed().await;
        if start == 0 {
            stopped.push(started);
        } else {
            killed.push(started);
        }
        settings = killed_amid_writes(roadstead, &upstream, start).await;
    }
    let (roadstead, started) = settings.start_timed().await;
    killed.push(started);
    let mut settings = roadstead.stop().await;
    let damaged = settings.storage().join("index.redb.damaged");
    assert!(!damaged.exists(), "a kill -9 has damaged the index");
    for _start in 1..STARTS {
        let (roadstead, started) = settings.start_timed().await;
        settings = roadstead.stop().await;
        stopped.push(started);
    }

    let mut figures = figures("empty storage", &empty);
    let size = index as f64 / MIB as f64;
    figures.push(Figure::new(format!("index with {rows} blobs and as many grants"), size, Unit::Mebibytes));
    figures.extend(self::figures(&format!("{rows} blobs, stopped in order"), &stopped));
    figures.extend(self::figures(&format!("{rows} blobs, killed amid writes"), &killed));
    figures
}

/// Kills the mirror while clients pull small blobs that it does not have, each of which makes rows.
pub(crate) async fn killed_amid_writes(roadstead: Roadstead, upstream: &Upstream, round: usize) -> Settings {
    const BLOBS: usize = 2000;
    const KILL_AFTER: usize = 500;
    let digests: Vec<_> =
        (0..BLOBS).map(|n| upstream.blob(REPOSITORY, blob(1000, (round * BLOBS + n) as u64))).collect();
    let (digests, next, pulled) = (Arc::new(digests), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let pulls = Pulls { digests: Arc::clone(&digests), next: Arc::clone(&next), pulled: Arc::clone(&pulled) };
            tokio::spawn(pulls.make(roadstead.address))
        })
        .collect();
    while pulled.load(Ordering::Relaxed) < KILL_AFTER {
        tokio::task::yield_now().await;
    }
    assert!(next.load(Ordering::Relaxed) < BLOBS, "the pulls were over before the kill");
    let settings = roadstead.kill();
    for client in clients {
        client.await.expect("clients take an end of the connection for what it is");
    }
    settings
}

struct Pulls {
    digests: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    pulled: Arc<AtomicUsize>,
}

impl Pulls {
    /// Pulls one blob after the other until the mirror is gone.
    async fn make(self, from: SocketAddr) {
        let mut client = Client::connect(from).await.expect("Roadstead accepts connections");
        while let Some(digest) = self.digests.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let Ok(head) = client.get(&blob_path(digest)).await else { return };
            assert_eq!(head.status, 200, "{digest}");
            if client.discard().await.is_err() {
                return;
            }
            self.pulled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn figures(of: &str, starts: &[Started]) -> Vec<Figure> {
    let longest = starts.iter().map(|start| start.ready).max().unwrap_or_default();
    vec![
        Figure::milliseconds(
            format!("{of}: first connection accepted"),
            median_time(starts.iter().map(|start| start.accepts)),
        ),
        Figure::milliseconds(
            format!("{of}: \"listening\" logged"),
            median_time(starts.iter().map(|start| start.logged)),
        ),
        Figure::milliseconds(format!("{of}: ready"), median_time(starts.iter().map(|start| start.ready))),
        Figure::milliseconds(format!("{of}: ready, the longest of {}", starts.len()), longest),
    ]
}
