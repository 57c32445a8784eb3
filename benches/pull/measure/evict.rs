#![expect(clippy::disallowed_methods, reason = "a thread that waits for the time of its next request")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, MIB};
use crate::client::Client;
use crate::load::{Latencies, Paced, Stream};
use crate::programs::{More, Roadstead, Settings};
use crate::pull::{REPOSITORY, blob_path, manifest_path};
use crate::report::{Figure, Unit};
use crate::support::image::image;
use crate::support::upstream::{Upstream, blob};
use crate::usage::cpu_seconds;

/// Its blobs are those that may go.
const COLD: &str = "library/cold";
const COLD_BYTES: u64 = 8 * MIB;
/// What is hit again and again, and pinned.
const HOT: u64 = 16;
const HOT_BYTES: u64 = 64 * 1024;
const CONNECTIONS: u32 = 8;
/// Of each connection.
const HIT_EVERY: Duration = Duration::from_millis(8);

/// The same hits while nothing else happens, while blobs come in for which there is room, and while as many come in for
/// which others have to go.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let blobs = bench.scale(192, 8);
    let pull_every = Duration::from_millis(bench.scale(125, 125));
    let upstream = Upstream::start().await;
    let hot: Vec<_> = (0..HOT).map(|seed| blob(HOT_BYTES, seed)).collect();
    let hot = image(&hot);
    upstream.publish(REPOSITORY, "1", &hot);
    let cold: Vec<Vec<String>> = (1..=2_u64)
        .map(|round| (0..blobs).map(|nth| upstream.blob(COLD, blob(COLD_BYTES, round * 10_000 + nth))).collect())
        .collect();
    // The first round just fits below the mark.
    let room = (blobs * COLD_BYTES + 4 * MIB) * 100 / 95 + MIB;
    let storage = format!("max_size = \"{room}B\"\npins = [\"docker.io/{REPOSITORY}:*\"]");
    let more = More { storage: &storage, ..More::default() };
    let roadstead = Settings::with(bench.folder("evict"), &upstream.url(), "1h", &more).start().await;
    let paths: Vec<String> = hot.layers().iter().map(|layer| blob_path(&layer.digest)).collect();
    let mut client = Client::connect(roadstead.address).await.expect("Roadstead accepts connections");
    for path in std::iter::once(&manifest_path("1")).chain(&paths) {
        let head = client.get(path).await.expect("Roadstead answers");
        assert_eq!(head.status, 200, "{path}");
        client.discard().await.expect("a body comes to its end");
    }

    let lasting = pull_every * u32::try_from(blobs).unwrap_or(u32::MAX);
    let run = |digests: &[String]| phase(&roadstead, &paths, digests, pull_every, lasting);
    let folder = roadstead.settings.storage().join("blobs");
    let (first, second) = match cold.as_slice() {
        [first, second] => (first.as_slice(), second.as_slice()),
        _ => (&[][..], &[][..]),
    };
    let alone = run(&[]);
    let with_room = run(first);
    let before = held(&folder);
    assert!(before >= blobs * COLD_BYTES, "something went before it had to");
    let full = run(second);
    let after = held(&folder);
    let mut stream = Stream::connect(roadstead.address).expect("Roadstead accepts connections");
    let still_hit = paths.iter().all(|path| stream.get(path).is_ok_and(|took| took.is_hit));
    assert!(still_hit, "what was hit is gone");
    drop(stream);
    roadstead.stop().await;

    let gibibytes = (before + blobs * COLD_BYTES).saturating_sub(after) as f64 / (1024 * MIB) as f64;
    let mut figures = vec![Figure::new("freed", gibibytes * 1024.0, Unit::Mebibytes)];
    for (what, phase) in [("nothing else", &alone), ("blobs come in", &with_room), ("blobs come in, others go", &full)]
    {
        let hits = &phase.hits;
        figures.push(Figure::new(format!("{what}: hits of 64 KiB"), hits.count() as f64, Unit::Count));
        figures.push(Figure::milliseconds(format!("{what}: hit of 64 KiB, p50"), hits.percentile(50)));
        figures.push(Figure::milliseconds(format!("{what}: hit of 64 KiB, p99"), hits.percentile(99)));
        figures.push(Figure::new(format!("{what}: CPU time, s"), phase.cpu, Unit::Seconds));
        figures.push(Figure::seconds(format!("{what}: time of all cold pulls"), phase.pulls));
    }
    let longer = full.pulls.as_secs_f64() - with_room.pulls.as_secs_f64();
    figures.extend([
        Figure::new("CPU time of eviction", (full.cpu - with_room.cpu) / gibibytes, Unit::CpuSecondsPerGibibyte),
        Figure::new("cold pulls take longer by", longer / gibibytes, Unit::SecondsPerGibibyte),
    ]);
    figures
}

struct Phase {
    hits: Latencies,
    /// Seconds, of Roadstead.
    cpu: f64,
    /// All cold pulls together.
    pulls: Duration,
}

/// Hits at their times for as long, and one cold pull after the other at theirs.
fn phase(roadstead: &Roadstead, hot: &[String], cold: &[String], every: Duration, lasting: Duration) -> Phase {
    let before = cpu_seconds(roadstead.pid());
    let hits = Paced::start(roadstead.address, hot, CONNECTIONS, HIT_EVERY);
    let begun = Instant::now();
    let (mut due, mut pulls) = (begun, Duration::ZERO);
    let mut stream = Stream::connect(roadstead.address).expect("Roadstead accepts connections");
    tokio::task::block_in_place(|| {
        for digest in cold {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            let took = stream.get(&format!("/v2/{COLD}/blobs/{digest}")).expect("every pull is answered");
            assert_eq!((took.bytes, took.is_hit), (COLD_BYTES, false), "{digest} was there");
            pulls += asked.elapsed();
            due += every;
        }
        thread::sleep((begun + lasting).saturating_duration_since(Instant::now()));
    });
    Phase { hits: hits.end(), cpu: cpu_seconds(roadstead.pid()) - before, pulls }
}

/// Bytes of all stored blobs.
fn held(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the storage is readable").flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => held(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
