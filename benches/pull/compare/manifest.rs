use super::small::{CLIENTS, answers};
use super::{Contestant, Stage};
use crate::load::Wanted;
use crate::measure::Bench;
use crate::programs::Registry;
use crate::pull::manifest_path;
use crate::support::image::{OCI_MANIFEST, image};
use crate::support::upstream::blob;
use crate::table::{Bar, Row, Who};

/// Layers of the image: as many as make a manifest of common size.
const LAYERS: u64 = 12;

pub(super) async fn measure(bench: &Bench) -> Vec<Row> {
    let upstream = Registry::start(bench.folder("manifest-upstream")).await;
    let contents: Vec<_> = (0..LAYERS).map(|seed| blob(1000, seed)).collect();
    let image = image(&contents);
    upstream.push("1", &image).await;
    let stage = Stage::new(bench, "manifest", upstream.address).await;
    let mut rows = Vec::new();
    for (reference, how) in [(image.digest.as_str(), "digest"), ("1", "fresh tag")] {
        let path = Wanted {
            path: manifest_path(reference),
            digest: image.digest.clone(),
            length: image.manifest.len(),
            accept: Some(OCI_MANIFEST),
        };
        let contestants: Vec<Contestant> = stage.caches().into_iter().collect();
        let work = format!("manifest by {how}, c={CLIENTS}");
        let (rate, p99) = ([Bar::AtLeast(1.2, Who::Proxy)], [Bar::AtMost(1.0, Who::Proxy)]);
        // The first answers of the first round are the cold ones: one round trip in a hundred thousand.
        rows.extend(answers(&work, &rate, &p99, &contestants, &[path], bench.scale(4000, 300)));
    }
    stage.stop().await;
    rows
}
