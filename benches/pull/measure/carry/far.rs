//! `warm` of many images from far away, beside `skopeo copy` of each.

use std::process::Command;
use std::time::{Duration, Instant};

use super::timed;
use crate::measure::{Bench, MIB};
use crate::programs::{Settings, program};
use crate::report::{Figure, Unit};
use crate::support::image::image;
use crate::support::upstream::{Upstream, blob};
use crate::wire::{Forwarder, Wire};

const TRIP: Duration = Duration::from_millis(50);
const LAYERS: u64 = 10;

pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let (images, size) = bench.scale((50, MIB), (3, MIB / 16));
    let upstream = Upstream::start().await;
    for nth in 0..images {
        let layers: Vec<_> = (0..LAYERS).map(|layer| blob(size, nth * LAYERS + layer)).collect();
        upstream.publish(&format!("team/app-{nth}"), "1", &image(&layers));
    }
    let wire = Forwarder::start(Wire::Far(TRIP), upstream.address()).await;
    let folder = bench.folder("far-warm");
    let roadstead = Settings::new(folder.clone(), &format!("http://{}", wire.address), "1h").start().await;
    let names: Vec<String> = (0..images).map(|nth| format!("docker.io/team/app-{nth}:1")).collect();
    let (warmed, _) = timed(roadstead.settings.command("warm").args(&names));
    let (again, _) = timed(roadstead.settings.command("warm").args(&names));
    let begun = Instant::now();
    for nth in 0..images {
        let from = format!("docker://{}/team/app-{nth}:1", wire.address);
        let to = format!("dir:{}", folder.join(format!("copy-{nth}")).display());
        let mut copy = Command::new(program("skopeo"));
        timed(copy.args(["copy", "--insecure-policy", "--src-tls-verify=false", &from, &to]));
    }
    let copied = begun.elapsed();
    roadstead.stop().await;
    std::fs::remove_dir_all(folder).expect("the mirror's folder goes");
    let name = format!("{images} images of {LAYERS} layers of {} KiB, {} ms away", size / 1024, TRIP.as_millis());
    vec![
        Figure::seconds(format!("{name}: warm"), warmed),
        Figure::seconds("warm again: all is held", again),
        Figure::seconds("skopeo copy of each, one after the other", copied),
        Figure::new("warm / skopeo", warmed.as_secs_f64() / copied.as_secs_f64(), Unit::Times),
    ]
}
