use std::time::Instant;

use super::{Bench, MIB};
use crate::load::Stream;
use crate::programs::Settings;
use crate::pull::{REPOSITORY, blob_path};
use crate::report::{Figure, Unit};
use crate::support::upstream::{Upstream, blob};

/// The command that reads a stopped mirror's blobs again, as fast as it can.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let (blobs, size) = bench.scale((64, 64 * MIB), (4, MIB));
    let upstream = Upstream::start().await;
    let paths: Vec<String> = (0..blobs).map(|seed| blob_path(&upstream.blob(REPOSITORY, blob(size, seed)))).collect();
    let roadstead = Settings::new(bench.folder("verify"), &upstream.url(), "1h").start().await;
    let mut stream = Stream::connect(roadstead.address).expect("Roadstead accepts connections");
    tokio::task::block_in_place(|| {
        for path in &paths {
            assert_eq!(stream.get(path).expect("Roadstead answers").bytes, size, "{path}");
        }
    });
    drop(stream);
    let settings = roadstead.stop().await;
    let begun = Instant::now();
    let mut command = settings.command("verify");
    let output = command.args(["--rate", "unlimited"]).output().expect("the release binary starts");
    let took = begun.elapsed();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n");
    assert!(output.status.success(), "{}: {said}", output.status);
    eprintln!("{}", said.trim());
    std::fs::remove_dir_all(bench.folder("verify")).expect("the mirror's folder goes");

    let held = (blobs * size) as f64 / MIB as f64;
    vec![
        Figure::new(format!("{blobs} blobs"), held, Unit::Mebibytes),
        Figure::seconds("exec to the end of `roadstead verify --rate unlimited`", took),
        Figure::new("read and hashed", held / took.as_secs_f64(), Unit::MebibytesPerSecond),
    ]
}
