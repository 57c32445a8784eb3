use super::{ROUNDS, Stage, turns};
use crate::load::read_all;
use crate::measure::{Bench, MIB};
use crate::programs::Registry;
use crate::pull::blob_path;
use crate::report::Unit;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let upstream = Registry::start(bench.folder("hit-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let stage = Stage::new(bench, "hit", upstream.address).await;
    let layer = image.layers().first().expect("it has a layer").digest.clone();
    let path = blob_path(&layer);
    stage.warm(&path, &layer).await;

    let mut rows = Vec::new();
    // Some GiB each time, since the kernel's CPU clock is coarse.
    for (clients, times) in [(1, bench.scale(32, 2)), (8, bench.scale(4, 1)), (64, 1)] {
        let work = |what: &str| format!("hit of {} MiB, c={clients}: {what}", size / MIB);
        let mut cpu = Row::new(work("CPU"), Unit::CpuSecondsPerGibibyte).bar(Bar::AtMost(1.15, Who::Static));
        let mut rate = Row::new(work("throughput"), Unit::MebibytesPerSecond);
        if clients > 1 {
            rate = rate.bar(Bar::AtLeast(1.0, Who::Static));
        }
        let paths = vec![path.as_str(); clients];
        for round in 0..ROUNDS {
            for contestant in turns(&stage.caches_and_files(), round) {
                let (seconds, (took, bytes)) = contestant.cpu_of(|| read_all(contestant.address, &paths, times));
                let mib = bytes as f64 / MIB as f64;
                cpu.add(contestant.who, seconds / (mib / 1024.0));
                rate.add(contestant.who, mib / took.as_secs_f64());
            }
        }
        rows.extend([cpu, rate]);
    }
    stage.stop().await;
    rows
}
