use std::time::Duration;

use super::{Contestant, ROUNDS, Stage, turns};
use crate::load::{Wanted, requests};
use crate::measure::Bench;
use crate::programs::Registry;
use crate::pull::blob_path;
use crate::report::Unit;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::usage::own_cpu_seconds;

/// Bytes.
const KIB: u64 = 1024;
pub(super) const CLIENTS: usize = 64;
/// Different blobs of each size.
const BLOBS: u64 = 16;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let upstream = Registry::start(bench.folder("small-upstream")).await;
    let stage = Stage::new(bench, "small", upstream.address).await;
    let mut rows = Vec::new();
    for size in [KIB, 16 * KIB, 64 * KIB] {
        let contents: Vec<_> = (0..BLOBS).map(|seed| blob(size, seed)).collect();
        let image = image(&contents);
        upstream.push(&format!("s{size}"), &image).await;
        let mut paths = Vec::new();
        for layer in image.layers() {
            let path = blob_path(&layer.digest);
            stage.warm(&path, &layer.digest).await;
            let length = usize::try_from(size).expect("a small blob");
            paths.push(Wanted { path, digest: layer.digest.clone(), length, accept: None });
        }
        let work = format!("blob of {} KiB, c={CLIENTS}", size / KIB);
        let bars = [Bar::AtLeast(1.0, Who::Static)];
        rows.extend(answers(&work, &bars, &[], &stage.caches_and_files(), &paths, bench.scale(3000, 300)));
    }
    stage.stop().await;
    rows
}

/// Requests per second, their latencies, and what one costs the server; and the client, so that it can be seen that the
/// client is not what limits. Lasting so many milliseconds each.
pub(super) fn answers(
    work: &str,
    rate_bars: &[Bar],
    p99_bars: &[Bar],
    contestants: &[Contestant],
    paths: &[Wanted],
    lasting: u64,
) -> [Row; 5] {
    let row = |what: &str, unit| Row::new(format!("{work}: {what}"), unit);
    let mut rate = rate_bars.iter().fold(row("requests", Unit::RequestsPerSecond), |row, bar| row.bar(*bar));
    let mut cpu = row("CPU of one", Unit::Microseconds);
    let mut client = row("CPU of one, client", Unit::Microseconds);
    let mut p50 = row("p50", Unit::Microseconds);
    let mut p99 = p99_bars.iter().fold(row("p99", Unit::Microseconds), |row, bar| row.bar(*bar));
    for round in 0..ROUNDS {
        for contestant in turns(contestants, round) {
            let lasting = Duration::from_millis(lasting);
            let own = own_cpu_seconds();
            let (seconds, answers) = contestant.cpu_of(|| requests(contestant.address, paths, CLIENTS, lasting));
            rate.add(contestant.who, answers.per_second());
            cpu.add(contestant.who, seconds * 1e6 / answers.count as f64);
            client.add(contestant.who, (own_cpu_seconds() - own) * 1e6 / answers.count as f64);
            p50.add(contestant.who, answers.percentile(50));
            p99.add(contestant.who, answers.percentile(99));
        }
    }
    [rate, cpu, client, p50, p99]
}
