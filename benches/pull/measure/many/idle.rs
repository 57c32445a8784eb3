use std::net::Ipv4Addr;
use std::time::Duration;

use super::LOOK_EVERY;
use crate::load::{Paced, Stream, Wanted, requests};
use crate::measure::Bench;
use crate::programs::{Roadstead, Settings};
use crate::pull::{REPOSITORY, blob_path, verified};
use crate::report::{Figure, Unit};
use crate::support::upstream::{Upstream, blob};
use crate::usage::{descriptors, private_kib};

const BLOB_BYTES: u64 = 1024;
/// Each with as many connections.
const SOURCES: u8 = 10;
const BUSY: usize = 8;

/// Connections that have pulled once and are kept alive, and what they cost those who pull.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let to_each = bench.scale(1000_u32, 20);
    let lasting = bench.scale(Duration::from_secs(5), Duration::from_millis(500));
    let upstream = Upstream::start().await;
    let content = blob(BLOB_BYTES, 1);
    let digest = upstream.blob(REPOSITORY, &content);
    let roadstead = Settings::new(bench.folder("many-idle"), &upstream.url(), "1h").start().await;
    let path = blob_path(&digest);
    verified(roadstead.address, &path, &digest).await;
    let wanted = [Wanted { path: path.clone(), digest, length: content.to_bytes().len(), accept: None }];

    let alone = requests(roadstead.address, &wanted, BUSY, lasting);
    let before = private_kib(roadstead.pid());
    let mut idle: Vec<Stream> = (0..SOURCES)
        .flat_map(|nth| (0..to_each).map(move |_| Ipv4Addr::new(127, 0, 0, 2 + nth)))
        .map(|source| pulled_once(source, &roadstead, &path))
        .collect();
    let many = idle.len();
    let with_them = private_kib(roadstead.pid());
    let open = descriptors(roadstead.pid());
    assert!(open > many, "{open} descriptors for {many} connections");
    let look = Paced::start(roadstead.settings.admin, &["/livez".to_owned()], 1, LOOK_EVERY);
    let among = requests(roadstead.address, &wanted, BUSY, lasting);
    let livez = look.end();
    let still_there = idle.iter_mut().filter_map(|stream| stream.get(&path).ok()).filter(|took| took.is_hit).count();
    drop(idle);
    roadstead.stop().await;

    let micros = |what: String, value: f64| Figure::new(what, value, Unit::Microseconds);
    let each = with_them.saturating_sub(before) as f64 / many as f64;
    vec![
        Figure::new(format!("{many} idle connections: private memory of each"), each, Unit::Kibibytes),
        Figure::promised(
            format!("{many} idle connections: part that is served again"),
            still_there as f64 / many as f64,
            1.0,
        ),
        micros(format!("hit of 1 KiB, {BUSY} connections and no others: p50"), alone.percentile(50)),
        micros(format!("hit of 1 KiB, {BUSY} connections and no others: p99"), alone.percentile(99)),
        micros(format!("hit of 1 KiB, {BUSY} connections beside the idle ones: p50"), among.percentile(50)),
        micros(format!("hit of 1 KiB, {BUSY} connections beside the idle ones: p99"), among.percentile(99)),
        Figure::milliseconds(format!("{many} idle connections: /livez, p99"), livez.percentile(99)),
    ]
}

fn pulled_once(source: Ipv4Addr, roadstead: &Roadstead, path: &str) -> Stream {
    let mut stream = Stream::connect_from(source, roadstead.address).expect("Roadstead accepts connections");
    assert!(stream.get(path).expect("Roadstead has it").is_hit, "{path} is not held");
    stream
}
