use super::cold::{Rows, is_right, pull};
use super::{ROUNDS, Stage, turns};
use crate::measure::{Bench, MIB};
use crate::programs::Registry;
use crate::support::image::image;
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::wire::{Forwarder, Wire};

/// Bytes per second.
const RATE: u64 = 40 * MIB;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(256 * MIB, 16 * MIB);
    let upstream = Registry::start(bench.folder("capped-upstream")).await;
    let image = image(&[blob(size, 1)]);
    upstream.push("1", &image).await;
    let wire = Forwarder::start(Wire::Capped(RATE), upstream.address).await;
    let work = |what: &str| format!("the same, {} MiB/s per connection: {what}", RATE / MIB);
    let mut rows = Rows::new(work, &[Bar::AtMost(0.3, Who::Direct)], None);
    for round in 0..ROUNDS {
        let stage = Stage::new(bench, &format!("capped-{round}"), wire.address).await;
        let contestants = [stage.caches().as_slice(), &[stage.direct()]].concat();
        for contestant in turns(&contestants, round) {
            rows.add(contestant.who, pull(contestant.address, &image));
            if contestant.who != Who::Direct {
                is_right(contestant.address, &image).await;
            }
        }
        stage.stop().await;
    }
    rows.done().into()
}
