use super::{Bench, MIB};
use crate::programs::{Registry, Settings};
use crate::pull::{self, Took, blob_path};
use crate::report::{Figure, Unit, median, median_time};
use crate::support::image::image;
use crate::support::upstream::blob;

const PULLS: u64 = 5;

/// Each blob is pulled once straight from the registry and once through Roadstead, which has never seen it. Both
/// clients hash what they get.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let size = bench.scale(256 * MIB, 8 * MIB);
    let registry = Registry::start(bench.folder("cold-registry")).await;
    let roadstead = Settings::new(bench.folder("cold"), &registry.url(), "1m").start().await;
    let (mut direct, mut cold): (Vec<Took>, Vec<Took>) = (Vec::new(), Vec::new());
    for seed in 0..PULLS {
        let image = image(&[blob(size, seed)]);
        registry.push(&format!("t{seed}"), &image).await;
        let digest = image.layers().iter().map(|layer| layer.digest.clone()).next().expect("it has a layer");
        let path = blob_path(&digest);
        // Neither side is always the first to read the registry's file.
        for through in [seed % 2 == 0, seed % 2 == 1] {
            let from = if through { roadstead.address } else { registry.address };
            let took = pull::verified(from, &path, &digest).await;
            if through { cold.push(took) } else { direct.push(took) }
        }
    }
    roadstead.stop().await;
    let ratio = cold.iter().zip(&direct).map(|(cold, direct)| cold.whole.as_secs_f64() / direct.whole.as_secs_f64());
    let ratio = median(ratio);
    let what = format!("{} MiB from docker-registry", size / MIB);
    vec![
        Figure::seconds(format!("{what}, direct"), median_time(direct.iter().map(|took| took.whole))),
        Figure::seconds(format!("{what}, cold through Roadstead"), median_time(cold.iter().map(|took| took.whole))),
        Figure::new(format!("{what}, cold / direct"), ratio, Unit::Times),
        Figure::milliseconds(
            format!("{what}, direct: first byte"),
            median_time(direct.iter().map(|took| took.first_byte)),
        ),
        Figure::milliseconds(
            format!("{what}, cold through Roadstead: first byte"),
            median_time(cold.iter().map(|took| took.first_byte)),
        ),
    ]
}
