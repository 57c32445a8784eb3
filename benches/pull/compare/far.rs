use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::cold::is_right;
use super::{ROUNDS, Stage, turns};
use crate::load::Stream;
use crate::measure::{Bench, MIB};
use crate::programs::{Registry, Settings};
use crate::pull::{blob_path, manifest_path};
use crate::report::{Unit, median_time};
use crate::support::image::{Image, image};
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::wire::{Forwarder, Wire};

const TRIP: Duration = Duration::from_millis(50);
const LAYERS: u64 = 8;
const HITS: usize = 9;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(16 * MIB, MIB);
    let upstream = Registry::start(bench.folder("far-upstream")).await;
    let layers: Vec<_> = (0..LAYERS).map(|seed| blob(size, seed)).collect();
    let image = image(&layers);
    upstream.push("1", &image).await;
    let wire = Forwarder::start(Wire::Far(TRIP), upstream.address).await;
    let name = format!("{LAYERS} layers of {} MiB, {} ms away", size / MIB, TRIP.as_millis());
    let mut cold = Row::new(format!("{name}: cold"), Unit::Seconds).bar(Bar::AtMost(1.0, Who::Direct));
    let mut manifest = Row::new(format!("{name}: manifest"), Unit::Milliseconds);
    let mut hits = Row::new(format!("{name}: hit"), Unit::Milliseconds);
    let mut near_hits = Row::new("the same hit, upstream next door", Unit::Milliseconds);
    let mut ratio = Row::new("far hit / near hit", Unit::Times).bar(Bar::Limit(1.1));
    let mut asked = Row::new(format!("{name}: asked by hits"), Unit::Count).bar(Bar::Exactly(0.0));
    for round in 0..ROUNDS {
        let stage = Stage::new(bench, &format!("far-{round}"), wire.address).await;
        let folder = bench.folder(&format!("far-near-{round}"));
        let near = Settings::new(folder.clone(), &upstream.url(), "1h").start().await;
        let contestants = [stage.caches().as_slice(), &[stage.direct(), stage.bare()]].concat();
        let mut far_hit = Duration::MAX;
        for contestant in turns(&contestants, round) {
            let (manifest_took, took) = pull(contestant.address, &image);
            cold.add(contestant.who, took.as_secs_f64());
            manifest.add(contestant.who, manifest_took.as_secs_f64() * 1000.0);
            if !contestant.is_cache() {
                continue;
            }
            is_right(contestant.address, &image).await;
            let before = wire.carried();
            let took = median_time((0..HITS).map(|_| pull(contestant.address, &image).1));
            hits.add(contestant.who, took.as_secs_f64() * 1000.0);
            if contestant.who == Who::Roadstead {
                far_hit = took;
            }
            asked.add(contestant.who, (wire.carried() - before) as f64);
        }
        pull(near.address, &image);
        let took = median_time((0..HITS).map(|_| pull(near.address, &image).1));
        near_hits.add(Who::Roadstead, took.as_secs_f64() * 1000.0);
        ratio.add(Who::Roadstead, far_hit.as_secs_f64() / took.as_secs_f64());
        near.stop().await;
        std::fs::remove_dir_all(folder).expect("the near mirror's folder goes");
        stage.stop().await;
    }
    vec![cold, manifest, hits, near_hits, ratio, asked]
}

/// As clients pull: the manifest by its tag, then its config and all layers at once, each on a connection of its own.
/// Times of the manifest and of all.
fn pull(from: SocketAddr, image: &Image) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut stream = Stream::connect(from).expect("the server accepts connections");
    stream.get(&manifest_path("1")).expect("the server has the tag");
    let manifest = begun.elapsed();
    thread::scope(|scope| {
        for blob in &image.blobs {
            scope.spawn(|| {
                let mut stream = Stream::connect(from).expect("the server accepts connections");
                let took = stream.get(&blob_path(&blob.digest)).expect("the server has the layer");
                assert_eq!(took.bytes, blob.content.size(), "a layer of another length");
            });
        }
    });
    (manifest, begun.elapsed())
}
