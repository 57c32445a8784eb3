use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Contestant, ROUNDS, turns};
use crate::load::Stream;
use crate::measure::{Bench, MIB};
use crate::programs::{More, Registry, Settings};
use crate::pull::{blob_path, manifest_path};
use crate::report::Unit;
use crate::support::image::{Image, image};
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};
use crate::wire::{Forwarder, Wire};

const TRIP: Duration = Duration::from_millis(50);
const LAYERS: u64 = 8;
/// As containerd and dockerd do, unless they are told otherwise.
const AT_ONCE: usize = 3;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let size = bench.scale(4 * MIB, MIB);
    let upstream = Registry::start(bench.folder("ahead-upstream")).await;
    let layers: Vec<_> = (0..LAYERS).map(|seed| blob(size, seed)).collect();
    let image = image(&layers);
    upstream.push("1", &image).await;
    let wire = Forwarder::start(Wire::Far(TRIP), upstream.address).await;
    let (far, trip) = (format!("http://{}", wire.address), TRIP.as_millis());
    let name = format!("{LAYERS} layers of {} MiB, {trip} ms away, {AT_ONCE} at a time", size / MIB);
    let mut rows =
        [("off", None), ("config", None), ("image", Some(Bar::AtMost(0.9, Who::Direct)))].map(|(what, bar)| {
            let row = Row::new(format!("{name}: complete = \"{what}\""), Unit::Seconds);
            let row = match bar {
                Some(bar) => row.bar(bar),
                None => row,
            };
            (what, row)
        });
    for round in 0..ROUNDS {
        for (what, row) in &mut rows {
            let folder = bench.folder(&format!("ahead-{what}-{round}"));
            let complete = format!("complete = \"{what}\"\n");
            let more = More { upstreams: &complete, ..More::default() };
            let mirror = Settings::with(folder.clone(), &far, "1h", &more).start().await;
            let contestants = [(Who::Roadstead, mirror.address), (Who::Direct, wire.address)]
                .map(|(who, address)| Contestant { who, address, pid: 0 });
            for contestant in turns(&contestants, round) {
                row.add(contestant.who, pull(contestant.address, &image).as_secs_f64());
            }
            mirror.stop().await;
            std::fs::remove_dir_all(folder).expect("the mirror's folder goes");
        }
    }
    rows.map(|(_, row)| row).into()
}

/// The manifest by its tag, then config and layers in their order, so many at once.
fn pull(from: SocketAddr, image: &Image) -> Duration {
    let begun = Instant::now();
    let mut stream = Stream::connect(from).expect("the server accepts connections");
    stream.get(&manifest_path("1")).expect("the server has the tag");
    let left = Mutex::new(image.blobs.iter());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut stream = Stream::connect(from).expect("the server accepts connections");
                let next = || left.lock().expect("nobody panics with it").next();
                while let Some(blob) = next() {
                    let took = stream.get(&blob_path(&blob.digest)).expect("the server has the layer");
                    assert_eq!(took.bytes, blob.content.size(), "a layer of another length");
                }
            });
        }
    });
    begun.elapsed()
}
