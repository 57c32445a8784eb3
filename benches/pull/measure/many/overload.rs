use std::time::Duration;

use super::LOOK_EVERY;
use crate::load::{Paced, Until, crowd};
use crate::measure::{Bench, MIB};
use crate::programs::{More, Settings};
use crate::pull::{REPOSITORY, blob_path, verified};
use crate::report::{Figure, Unit};
use crate::support::upstream::{Upstream, blob};

const PLACES: usize = 16;
const CLIENTS: usize = 128;
/// Too large to leave at once.
const BLOB_BYTES: u64 = 8 * MIB;

/// More clients than places. Those who are refused ask again at once.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let lasting = bench.scale(Duration::from_secs(10), Duration::from_secs(1));
    let upstream = Upstream::start().await;
    let digest = upstream.blob(REPOSITORY, blob(BLOB_BYTES, 1));
    let server = format!("max_requests = {PLACES}\n");
    let more = More { server: &server, ..More::default() };
    let roadstead = Settings::with(bench.folder("many-overload"), &upstream.url(), "1h", &more).start().await;
    let path = blob_path(&digest);
    verified(roadstead.address, &path, &digest).await;
    let run = |clients: usize| {
        let look = Paced::start(roadstead.settings.admin, &["/livez".to_owned()], 1, LOOK_EVERY);
        let asked = crowd(roadstead.address, &path, BLOB_BYTES, clients, Until::Over(lasting));
        (asked.expect("every request is answered"), look.end())
    };
    let (as_many, _) = run(PLACES);
    assert_eq!(as_many.refused, 0, "as many clients as places, and some were refused");
    let (asked, livez) = run(CLIENTS);
    roadstead.stop().await;
    assert_ne!(asked.refused, 0, "nobody was refused: this shows nothing");

    let what = format!("{CLIENTS} clients, {PLACES} places");
    let rate = |crowd: &crate::load::Crowd| crowd.bytes as f64 / MIB as f64 / crowd.took.as_secs_f64();
    let answers = asked.served + asked.refused;
    let refused = asked.refused as f64 * 100.0 / answers as f64;
    vec![
        Figure::new(format!("{what}: answers"), answers as f64 / asked.took.as_secs_f64(), Unit::RequestsPerSecond),
        Figure::new(format!("{what}: answered 503"), refused, Unit::Percent),
        Figure::promised(
            format!("{what}: part of the 503 with Retry-After"),
            asked.told_when as f64 / asked.refused as f64,
            1.0,
        ),
        Figure::new(format!("{what}: served"), rate(&asked), Unit::MebibytesPerSecond),
        Figure::new(format!("{PLACES} clients, as many places: served"), rate(&as_many), Unit::MebibytesPerSecond),
        Figure::new(format!("{what}: looks at /livez, all answered"), livez.count() as f64, Unit::Count),
        Figure::milliseconds(format!("{what}: /livez, p99"), livez.percentile(99)),
    ]
}
