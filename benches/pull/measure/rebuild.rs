use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{Bench, rows};
use crate::load::Stream;
use crate::programs::Settings;
use crate::report::{Figure, Unit, median_time};
use crate::support::upstream::Upstream;

const STARTS: usize = 3;
/// Grants of one repository.
const TO_EACH: u64 = 1000;

/// Starts without an index: with the blobs alone, and with all that is remembered of them.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let (blobs, grants) = bench.scale((100_000, 900_000), (1000, 9000));
    let facts = blobs + grants;
    let upstream = Upstream::start().await;
    let settings = Settings::new(bench.folder("rebuild"), &upstream.url(), "1h");
    let mut settings = settings.start().await.stop().await;
    let storage = settings.storage();
    let begun = Instant::now();
    rows::write_shared(&storage, blobs, grants, TO_EACH).await;
    rows::write_files(&storage, blobs);
    eprintln!("  written in {:.1} s", begun.elapsed().as_secs_f64());
    let (index, kept) = (storage.join("index.redb"), bench.folder("rebuild-facts"));
    copy(&storage.join("facts"), &kept);
    let path = rows::one_path(blobs);

    let (mut there, mut without_facts, mut with_facts) = (Vec::new(), Vec::new(), Vec::new());
    for _start in 0..STARTS {
        let (roadstead, started) = settings.start_timed().await;
        there.push(started.ready);
        settings = roadstead.stop().await;
    }
    for _start in 0..STARTS {
        fs::remove_file(&index).expect("the index is there");
        fs::remove_dir_all(storage.join("facts")).expect("the facts are there");
        let (roadstead, started) = settings.start_timed().await;
        without_facts.push(started.ready);
        settings = roadstead.stop().await;
    }
    for _start in 0..STARTS {
        fs::remove_file(&index).expect("the index is there");
        fs::remove_dir_all(storage.join("facts")).expect("the facts are there");
        copy(&kept, &storage.join("facts"));
        let (roadstead, started) = settings.start_timed().await;
        with_facts.push(started.ready);
        // Upstream does not have it: that it may be read is what a fact says.
        let took = Stream::connect(roadstead.address).and_then(|mut stream| stream.get(&path));
        assert!(took.expect("Roadstead has it").is_hit, "{path} was not found again");
        settings = roadstead.stop().await;
    }
    fs::remove_dir_all(storage).expect("the mirror's storage goes");

    let [there, without_facts, with_facts] = [there, without_facts, with_facts].map(median_time);
    let walked = without_facts.saturating_sub(there).as_secs_f64();
    let taken_in = with_facts.saturating_sub(without_facts).as_secs_f64();
    vec![
        Figure::milliseconds(format!("{blobs} blobs, {facts} facts: exec to ready, index there"), there),
        Figure::milliseconds("exec to ready, no index and no facts", without_facts),
        Figure::milliseconds("exec to ready, no index", with_facts),
        Figure::new("blobs found", blobs as f64 / walked, Unit::PerSecond),
        Figure::new("facts taken in", facts as f64 / taken_in, Unit::PerSecond),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the bench's folder is writable");
    for entry in fs::read_dir(from).expect("the facts are readable").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("the bench's folder is writable");
    }
}
