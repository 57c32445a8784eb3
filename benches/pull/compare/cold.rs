use std::net::SocketAddr;
use std::time::Duration;

use super::{ROUNDS, Stage, turns};
use crate::load::Stream;
use crate::measure::{Bench, MIB};
use crate::programs::Registry;
use crate::pull::{self, blob_path, manifest_path};
use crate::report::Unit;
use crate::support::image::{Image, image};
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::usage::written_bytes;

/// One pull is short: what else the machine does weighs more in it than in other work.
const TIMES: usize = 3;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let upstream = Registry::start(bench.folder("cold-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let work = |what: &str| format!("cold pull of {} MiB: {what}", size / MIB);
    let bars = [Bar::AtMost(0.8, Who::Proxy), Bar::AtMost(1.0, Who::Registry)];
    let mut rows = Rows::new(work, &bars, Some(Bar::Limit(10.0)));
    let mut cpu = Row::new(work("CPU"), Unit::CpuSecondsPerGibibyte);
    let mut copies = Row::new(work("copies fetched"), Unit::Count);
    for round in 0..ROUNDS * TIMES {
        let stage = Stage::new(bench, &format!("cold-{round}"), upstream.address).await;
        let contestants = [stage.caches().as_slice(), &[stage.direct(), stage.bare()]].concat();
        for contestant in turns(&contestants, round) {
            let sent = written_bytes(upstream.pid());
            let (seconds, pulled) = contestant.cpu_of(|| pull(contestant.address, &image));
            rows.add(contestant.who, pulled);
            if contestant.is_cache() {
                cpu.add(contestant.who, seconds / (size as f64 / MIB as f64 / 1024.0));
            }
            copies.add(contestant.who, (written_bytes(upstream.pid()) - sent) as f64 / size as f64);
            if contestant.is_cache() {
                is_right(contestant.address, &image).await;
            }
        }
        stage.stop().await;
    }
    let [whole, first] = rows.done();
    vec![whole, first, cpu, copies]
}

/// Two rows that every kind of cold pull has.
pub(super) struct Rows {
    whole: Row,
    first_byte: Row,
}

/// How long a pull took, and how long the layer's first byte was awaited.
#[derive(Clone, Copy)]
pub(super) struct Pulled {
    whole: Duration,
    first_byte: Duration,
}

impl Rows {
    pub(super) fn new(work: impl Fn(&str) -> String, whole: &[Bar], first_byte: Option<Bar>) -> Self {
        let first = Row::new(work("first layer byte"), Unit::Milliseconds);
        Self {
            whole: whole.iter().fold(Row::new(work("time"), Unit::Seconds), |row, bar| row.bar(*bar)),
            first_byte: first_byte.into_iter().fold(first, Row::bar),
        }
    }

    pub(super) fn add(&mut self, who: Who, pulled: Pulled) {
        self.whole.add(who, pulled.whole.as_secs_f64());
        self.first_byte.add(who, pulled.first_byte.as_secs_f64() * 1000.0);
    }

    pub(super) fn done(self) -> [Row; 2] {
        [self.whole, self.first_byte]
    }
}

/// The manifest by its tag, then the layer, on one new connection. Nothing is hashed here, which would be the client's
/// cost; [`is_right`] does that.
pub(super) fn pull(from: SocketAddr, image: &Image) -> Pulled {
    let layer = image.layers().first().expect("it has a layer");
    let begun = std::time::Instant::now();
    let mut stream = Stream::connect(from).expect("the server accepts connections");
    let manifest = stream.get(&manifest_path("1")).expect("the server has the tag");
    assert_eq!(manifest.bytes, image.manifest.len() as u64, "a manifest of another length");
    let took = stream.get(&blob_path(&layer.digest)).expect("the server has the layer");
    assert_eq!(took.bytes, layer.content.size(), "a layer of another length");
    Pulled { whole: begun.elapsed(), first_byte: took.first_byte }
}

/// What the server has now is what was asked for.
pub(super) async fn is_right(from: SocketAddr, image: &Image) {
    for blob in image.layers() {
        pull::verified(from, &blob_path(&blob.digest), &blob.digest).await;
    }
}
