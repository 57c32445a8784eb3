use std::time::Duration;

use super::LOOK_EVERY;
use crate::load::{Crowd, Paced, Until, crowd};
use crate::measure::{Bench, MIB};
use crate::programs::{More, Settings};
use crate::pull::{REPOSITORY, blob_path};
use crate::report::{Figure, Unit};
use crate::support::upstream::{Upstream, blob};
use crate::usage::{PeakMemory, private_kib};
use crate::wire::{Forwarder, Wire};

/// What is there without the crowd: a fill and some readers.
const FEW: usize = 10;
/// Bytes per second that upstream gives.
const RATE: u64 = MIB;

/// Readers of one running fill, few and then many.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let many = bench.scale(1000, 50);
    let size = bench.scale(12 * MIB, 2 * MIB);
    let upstream = Upstream::start().await;
    let digests = [1, 2].map(|seed| upstream.blob(REPOSITORY, blob(size, seed)));
    let wire = Forwarder::start(Wire::Capped(RATE), upstream.address()).await;
    // More of them would bring it faster.
    let more = More { upstreams: "segments = 1\n", ..More::default() };
    let url = format!("http://{}", wire.address);
    let roadstead = Settings::with(bench.folder("many-fill"), &url, "1h", &more).start().await;

    let read = |digest: &str, readers: usize| -> (u64, Crowd) {
        let peak = PeakMemory::watch(roadstead.pid());
        let path = blob_path(digest);
        let read = crowd(roadstead.address, &path, size, readers, Until::Answered).expect("every reader gets it");
        assert_eq!((read.served, read.bytes), (readers as u64, readers as u64 * size), "not all were served");
        let fill = Duration::from_secs_f64(size as f64 / RATE as f64);
        assert!(read.all_began < fill / 2, "readers came late: {:?} of {fill:?}", read.all_began);
        (peak.end(), read)
    };
    let [small, large] = &digests;
    // On this thread the upstream would stand still.
    let (few_kib, _) = tokio::task::block_in_place(|| read(small, FEW));
    let before = private_kib(roadstead.pid());
    let look = Paced::start(roadstead.settings.admin, &["/livez".to_owned()], 1, LOOK_EVERY);
    let (many_kib, crowd) = tokio::task::block_in_place(|| read(large, many));
    let livez = look.end();
    let copies = upstream.bytes_sent_of(large) as f64 / size as f64;
    roadstead.stop().await;

    let each = many_kib.saturating_sub(few_kib) as f64 / (many - FEW) as f64;
    let what = format!("{many} readers of one fill of {} MiB", size / MIB);
    vec![
        Figure::promised(format!("{what}: copies fetched"), copies, 1.0),
        Figure::new(format!("{what}: private memory of each, above {FEW}"), each, Unit::Kibibytes),
        Figure::new(format!("{what}: private memory before"), before as f64 / 1024.0, Unit::Mebibytes),
        Figure::new(format!("{what}: private memory, peak"), many_kib as f64 / 1024.0, Unit::Mebibytes),
        Figure::milliseconds(format!("{what}: until all have begun"), crowd.all_began),
        Figure::seconds(format!("{what}: until all are served"), crowd.took),
        Figure::milliseconds(format!("{what}: /livez, p99"), livez.percentile(99)),
    ]
}
