//! Export and import beside `tar` and `skopeo copy` of the same blobs, and the size of a delta.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::timed;
use crate::measure::{Bench, MIB};
use crate::programs::{More, Roadstead, Settings, program};
use crate::pull::REPOSITORY;
use crate::report::{Figure, Unit, median_time};
use crate::support::image::image;
use crate::support::upstream::{Upstream, blob};
use crate::usage::{PeakMemory, private_kib};

const ROUNDS: usize = 3;
const LAYERS: u64 = 8;

pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let size = bench.scale(128 * MIB, MIB);
    let upstream = Upstream::start().await;
    let layers: Vec<_> = (0..LAYERS).map(|seed| blob(size, seed)).collect();
    let (first, mut next) = (image(&layers), layers);
    next.pop();
    next.push(blob(size, LAYERS));
    let second = image(&next);
    upstream.publish(REPOSITORY, "1", &first);
    upstream.publish(REPOSITORY, "2", &second);
    let folder = bench.folder("carry");
    let roadstead = Settings::new(folder.clone(), &upstream.url(), "1h").start().await;
    pull(&roadstead, "1");
    // In order: nothing in the storage changes any more.
    let roadstead = roadstead.stop().await.start().await;
    let path = |name: &str| folder.join(name).display().to_string();
    let (bundle, other, name) = (path("bundle.tar"), path("other.tar"), format!("docker.io/{REPOSITORY}:1"));
    let from = format!("docker://{}/{REPOSITORY}:1", roadstead.address);
    let storage = roadstead.settings.storage();

    let (mut exported, mut packed, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    let (mut imported, mut copied_in) = (Vec::new(), Vec::new());
    let mut memory = [0, 0];
    for round in 0..ROUNDS {
        let before = private_kib(roadstead.pid());
        let watched = PeakMemory::watch(roadstead.pid());
        exported.push(timed(roadstead.settings.command("export").args(["--output", &bundle, &name])).0);
        memory[0] = memory[0].max(watched.end().saturating_sub(before));
        packed.push(synced(
            Command::new(program("tar")).arg("-cf").arg(&other).arg("-C").arg(&storage).arg("blobs"),
            &other,
        ));
        std::fs::remove_file(&other).expect("tar has written it");
        let mut copy = Command::new(program("skopeo"));
        copy.args(["copy", "--insecure-policy", "--src-tls-verify=false", &from, &format!("oci-archive:{other}:1")]);
        copied.push(synced(&mut copy, &other));

        let more = More { upstreams: "offline = true", ..More::default() };
        let island = bench.folder(&format!("carry-island-{round}"));
        let island_settings = Settings::with(island.clone(), "http://127.0.0.1:9", "1h", &more);
        let there = island_settings.start().await;
        let before = private_kib(there.pid());
        let watched = PeakMemory::watch(there.pid());
        imported.push(timed(there.settings.command("import").arg(&bundle)).0);
        memory[1] = memory[1].max(watched.end().saturating_sub(before));
        there.stop().await;
        let layout = island.join("layout");
        let mut copy = Command::new(program("skopeo"));
        copy.args([
            "copy",
            "--insecure-policy",
            &format!("oci-archive:{other}:1"),
            &format!("oci:{}:1", layout.display()),
        ]);
        copied_in.push(timed(&mut copy).0);
        std::fs::remove_file(&other).expect("skopeo has written it");
        std::fs::remove_dir_all(island).expect("the island's folder goes");
    }
    let (whole, delta) = delta(&roadstead, &path("2.tar"), &path("delta.tar"), &format!("{bundle}.receipt"));
    roadstead.stop().await;
    std::fs::remove_dir_all(folder).expect("the mirror's folder goes");

    let mebibytes = (LAYERS * size) as f64 / MIB as f64;
    let speed = |what: &str, took: &[Duration]| {
        let seconds = median_time(took.iter().copied()).as_secs_f64();
        Figure::new(what, mebibytes / seconds, Unit::MebibytesPerSecond)
    };
    let ratio = |what: &str, one: &[Duration], other: &[Duration]| {
        let [one, other] = [one, other].map(|took| median_time(took.iter().copied()).as_secs_f64());
        Figure::new(what, one / other, Unit::Times)
    };
    vec![
        Figure::new(format!("an image of {LAYERS} layers of {} MiB", size / MIB), mebibytes, Unit::Mebibytes),
        speed("export, synced", &exported),
        speed("tar of the same blobs, synced", &packed),
        speed("skopeo copy from the mirror to an archive, synced", &copied),
        ratio("export / tar, time (goal: 1.2)", &exported, &packed),
        speed("import", &imported),
        speed("skopeo copy from an archive to a layout, not synced", &copied_in),
        Figure::new("memory of the server, export", memory[0] as f64 / 1024.0, Unit::Mebibytes),
        Figure::new("memory of the server, import", memory[1] as f64 / 1024.0, Unit::Mebibytes),
        Figure::new(
            format!("an image with one other layer of {LAYERS}: delta / whole"),
            delta / whole * 100.0,
            Unit::Percent,
        ),
    ]
}

/// Sizes of the bundle of another image, and of that which leaves out what is there.
fn delta(roadstead: &Roadstead, whole: &str, part: &str, receipt: &str) -> (f64, f64) {
    pull(roadstead, "2");
    let name = format!("docker.io/{REPOSITORY}:2");
    timed(roadstead.settings.command("export").args(["--output", whole, &name]));
    timed(roadstead.settings.command("export").args(["--output", part, "--since", receipt, &name]));
    let size = |path: &str| std::fs::metadata(Path::new(path)).expect("it was written").len() as f64;
    (size(whole), size(part))
}

/// Until all of it is stored: answers to clients do not wait for that.
fn pull(roadstead: &Roadstead, tag: &str) {
    timed(roadstead.settings.command("warm").arg(format!("docker.io/{REPOSITORY}:{tag}")));
}

/// With what it takes until the file is on the disk, as Roadstead's are.
fn synced(command: &mut Command, file: &str) -> Duration {
    let begun = Instant::now();
    timed(command);
    File::open(file).and_then(|file| file.sync_all()).expect("it was written");
    begun.elapsed()
}
