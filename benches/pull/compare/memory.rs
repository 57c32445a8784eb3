use super::{ROUNDS, Stage, turns};
use crate::load::read_all;
use crate::measure::{Bench, MIB};
use crate::programs::Registry;
use crate::pull::blob_path;
use crate::report::Unit;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::usage::PeakMemory;
use crate::wire::{Forwarder, Wire};

const READERS: usize = 64;
/// Bytes per second of each connection: slow enough for all readers to be there while the blob comes.
const RATE: u64 = 64 * MIB;
/// In MiB.
const BAR: Bar = Bar::Limit(64.0);

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 16 * MIB);
    let upstream = Registry::start(bench.folder("memory-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let wire = Forwarder::start(Wire::Capped(RATE), upstream.address).await;
    let path = blob_path(&image.layers().first().expect("it has a layer").digest);
    let work = |what: &str| format!("private memory, {READERS} readers of {what}");
    let mut cold = Row::new(work("a fill"), Unit::Mebibytes).bar(BAR);
    let mut stored = Row::new(work("a stored blob"), Unit::Mebibytes).bar(BAR);
    let paths = vec![path.as_str(); READERS];
    for round in 0..ROUNDS {
        let stage = Stage::new(bench, &format!("memory-{round}"), wire.address).await;
        for contestant in turns(&stage.caches(), round) {
            // Those that fetch a copy for each reader would share one core's wire for minutes.
            if contestant.who != Who::Registry {
                cold.add(contestant.who, peak(contestant.pid, || read_all(contestant.address, &paths, 1)));
            }
            stored.add(contestant.who, peak(contestant.pid, || read_all(contestant.address, &paths, 1)));
        }
        stage.stop().await;
    }
    vec![cold, stored]
}

/// The most private memory while something is done. MiB.
fn peak<T>(pid: u32, work: impl FnOnce() -> T) -> f64 {
    let peak = PeakMemory::watch(pid);
    work();
    peak.end() as f64 / 1024.0
}
