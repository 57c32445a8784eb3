//! What costs what with a thousand blobs in the index, and with a million.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Stream;
use crate::measure::rows;
use crate::measure::start::killed_amid_writes;
use crate::measure::{Bench, MIB};
use crate::programs::{Roadstead, Settings, Started};
use crate::pull::{REPOSITORY, blob_path, manifest_path};
use crate::report::{Figure, Unit, median_time};
use crate::support::image::{Image, image};
use crate::support::upstream::{Upstream, blob};

const STARTS: usize = 5;
/// Grants of one repository.
const TO_EACH: u64 = 1000;
/// Images that are held, each of one small layer.
const IMAGES: u64 = 200;
const LAYER_BYTES: u64 = 16 * 1024;
/// Grants whose use is written down at once.
const USES: u64 = 1000;
const FLUSHES: usize = 5;

/// The figures of each size.
pub(crate) async fn measure(bench: &Bench) -> Vec<(String, Vec<Figure>)> {
    let sizes = [(1_000, 10_000), (100_000, 1_000_000), (1_000_000, 10_000_000)];
    let quick = [(1_000, 10_000), (2_000, 20_000), (4_000, 40_000)];
    let mut curve = Vec::new();
    for (blobs, grants) in bench.scale(sizes, quick) {
        let name = format!("{} / {}", short(blobs), short(grants));
        eprintln!("{name} blobs / grants");
        curve.push((name, of_size(bench, blobs, grants).await));
    }
    curve
}

fn short(number: u64) -> String {
    match number {
        1_000_000.. => format!("{} M", number / 1_000_000),
        _ => format!("{} k", number / 1000),
    }
}

async fn of_size(bench: &Bench, blobs: u64, grants: u64) -> Vec<Figure> {
    let upstream = Upstream::start().await;
    let held = images(&upstream, 0);
    let folder = bench.folder(&format!("scale-{blobs}"));
    let roadstead = Settings::new(folder.clone(), &upstream.url(), "1h").start().await;
    for image in &held {
        pull(&roadstead, image);
    }
    let mut settings = roadstead.stop().await;
    let begun = Instant::now();
    rows::write_shared(&settings.storage(), blobs, grants, TO_EACH).await;
    eprintln!("  written in {:.1} s", begun.elapsed().as_secs_f64());
    let index = std::fs::metadata(settings.storage().join("index.redb")).expect("the index is there").len();

    let (mut stopped, mut killed): (Vec<Started>, Vec<Started>) = (Vec::new(), Vec::new());
    for _start in 0..STARTS {
        let (roadstead, started) = settings.start_timed().await;
        stopped.push(started);
        settings = roadstead.stop().await;
    }
    for round in 0..=STARTS {
        let (roadstead, started) = settings.start_timed().await;
        if round > 0 {
            killed.push(started);
        }
        settings = killed_amid_writes(roadstead, &upstream, round).await;
    }

    let roadstead = settings.start().await;
    let [manifest, first_blob] = hits(&roadstead, &held);
    let [manifest_again, blob_again] = hits(&roadstead, &held);
    let unknown = images(&upstream, 1);
    let misses = unknown.iter().map(|image| pull(&roadstead, image)[1]).collect::<Vec<_>>();
    let private = crate::usage::private_kib(roadstead.pid()) as f64 / 1024.0;
    settings = roadstead.stop().await;
    let (visible, durable) = flush(&settings.storage(), blobs, grants).await;
    std::fs::remove_dir_all(folder).expect("the mirror's folder goes");

    let ready = |starts: &[Started]| median_time(starts.iter().map(|start| start.ready));
    let mut figures = vec![
        Figure::new("index", index as f64 / MIB as f64, Unit::Mebibytes),
        Figure::milliseconds("exec to ready, stopped in order", ready(&stopped)),
        Figure::milliseconds("exec to ready, killed amid writes", ready(&killed)),
    ];
    let micros = |what: &str, times: Duration| Figure::new(what, times.as_secs_f64() * 1e6, Unit::Microseconds);
    figures.extend([
        micros("hit of a manifest, the first since the start", manifest),
        micros("hit of a blob of 16 KiB, the first since the start", first_blob),
        micros("hit of a manifest, again", manifest_again),
        micros("hit of a blob of 16 KiB, again", blob_again),
        micros("miss of a blob of 16 KiB", median_time(misses)),
        Figure::milliseconds(format!("use of {USES} grants written, visible"), visible),
        Figure::milliseconds(format!("use of {USES} grants written, durable"), durable),
        Figure::new("private memory after it", private, Unit::Mebibytes),
    ]);
    figures
}

/// Different in each of some rounds, and known to the upstream.
fn images(upstream: &Upstream, round: u64) -> Vec<Image> {
    let images = (0..IMAGES).map(|nth| image(&[blob(LAYER_BYTES, 1_000_000 + round * IMAGES + nth)]));
    images.inspect(|image| drop(upstream.publish_untagged(REPOSITORY, image))).collect()
}

/// Medians of a manifest by digest and of a layer.
fn hits(roadstead: &Roadstead, images: &[Image]) -> [Duration; 2] {
    let pulls: Vec<_> = images.iter().map(|image| pull(roadstead, image)).collect();
    [0, 1].map(|which| median_time(pulls.iter().filter_map(|pull| pull.get(which).copied())))
}

/// Times from asking to the first byte of the manifest and of the layer. The connection is there before.
fn pull(roadstead: &Roadstead, image: &Image) -> [Duration; 2] {
    let mut stream = Stream::connect(roadstead.address).expect("Roadstead accepts connections");
    let layer = image.layers().first().expect("it has a layer");
    [manifest_path(&image.digest), blob_path(&layer.digest)]
        .map(|path| stream.get(&path).expect("Roadstead has it").first_byte)
}

/// How long it takes until the use of many grants can be seen by readers, and is on the disk.
async fn flush(storage: &Path, blobs: u64, grants: u64) -> (Duration, Duration) {
    let uses = rows::uses(blobs, grants, TO_EACH, USES);
    let (index, _) = rows::open(storage);
    let (mut visible, mut durable) = (Vec::new(), Vec::new());
    for _flush in 0..FLUSHES {
        let begun = Instant::now();
        index.apply(uses.clone()).await.expect("the index takes facts");
        visible.push(begun.elapsed());
        index.apply_durably(uses.clone()).await.expect("the index takes facts");
        durable.push(begun.elapsed().saturating_sub(*visible.last().unwrap_or(&Duration::ZERO)));
    }
    index.close().await;
    (median_time(visible), median_time(durable))
}
