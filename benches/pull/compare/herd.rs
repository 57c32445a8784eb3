use super::cold::is_right;
use super::{ROUNDS, Stage, turns};
use crate::load::read_all;
use crate::measure::{Bench, MIB};
use crate::programs::Registry;
use crate::pull::blob_path;
use crate::report::Unit;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::usage::written_bytes;

const CLIENTS: usize = 32;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let upstream = Registry::start(bench.folder("herd-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let layer = image.layers().first().expect("it has a layer").digest.clone();
    let path = blob_path(&layer);
    let work = |what: &str| format!("herd of {CLIENTS} on {} cold MiB: {what}", size / MIB);
    let mut copies = Row::new(work("copies"), Unit::Count).bar(Bar::Exactly(1.0));
    let mut time = Row::new(work("time"), Unit::Seconds).bar(Bar::AtMost(1.0, Who::Proxy));
    let paths = vec![path.as_str(); CLIENTS];
    for round in 0..ROUNDS {
        let stage = Stage::new(bench, &format!("herd-{round}"), upstream.address).await;
        for contestant in turns(&stage.caches(), round) {
            // What the upstream's process has written is what it has sent: its storage is only read.
            let sent = written_bytes(upstream.pid());
            let (took, bytes) = read_all(contestant.address, &paths, 1);
            assert_eq!(bytes, size * CLIENTS as u64, "every client gets all of it");
            copies.add(contestant.who, (written_bytes(upstream.pid()) - sent) as f64 / size as f64);
            time.add(contestant.who, took.as_secs_f64());
            is_right(contestant.address, &image).await;
        }
        stage.stop().await;
    }
    vec![copies, time]
}
