use super::Bench;
use crate::programs::{Namespace, Registry, Roadstead, Settings};
use crate::pull::{asked, blob_path, manifest_path};
use crate::report::Figure;
use crate::support::image::{Image, image};
use crate::support::upstream::blob;

/// What a client meets when upstream stops answering without a word. Once while Roadstead has connections that it
/// does not know to be dead, once when it has to make new ones.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let namespace = Namespace::new(bench.folder("").as_path());
    let registry = Registry::start_in(&namespace, Namespace::ip(), bench.folder("black-hole-registry")).await;
    let held = image(&[blob(100_000, 1)]);
    // Two tags, because one that could not be checked is served unasked for a while.
    for tag in ["held-1", "held-2"] {
        registry.push(tag, &held).await;
    }
    registry.push("fetched", &image(&[blob(100_000, 2)])).await;
    // Every tag request is a check.
    let settings = Settings::new(bench.folder("black-hole"), &registry.url(), "0s");

    let mut figures = Vec::new();
    let roadstead = settings.start().await;
    warm(&roadstead, &held).await;
    namespace.swallow();
    figures.extend(stale(&roadstead, "held-1", "a dead connection").await);
    let settings = again(&namespace, roadstead).await;

    let roadstead = settings.start().await;
    namespace.swallow();
    figures.extend(stale(&roadstead, "held-2", "no connection").await);
    let settings = again(&namespace, roadstead).await;

    let roadstead = settings.start().await;
    assert_eq!(asked(roadstead.address, &manifest_path("fetched")).await.0, 200);
    namespace.swallow();
    figures.push(uncached(&roadstead, "breaker closed, a dead connection").await);
    let settings = again(&namespace, roadstead).await;

    let roadstead = settings.start().await;
    namespace.swallow();
    figures.push(uncached(&roadstead, "breaker closed, no connection").await);
    figures.push(uncached(&roadstead, "breaker open").await);
    again(&namespace, roadstead).await;
    figures
}

/// Pulls the image whole: one that is not would not be served stale.
async fn warm(roadstead: &Roadstead, image: &Image) {
    let blobs = image.blobs.iter().map(|blob| blob_path(&blob.digest));
    for path in blobs.chain(["held-1", "held-2"].map(manifest_path)) {
        assert_eq!(asked(roadstead.address, &path).await.0, 200, "{path}");
    }
}

/// The first pull of a tag that cannot be checked, and the next.
async fn stale(roadstead: &Roadstead, tag: &str, with: &str) -> [Figure; 2] {
    let pull = async |which: &str| {
        let (status, took) = asked(roadstead.address, &manifest_path(tag)).await;
        assert_eq!(status, 200, "a stale tag is served");
        Figure::seconds(format!("stale tag, {which} pull, {with}"), took)
    };
    [pull("first").await, pull("next").await]
}

async fn uncached(roadstead: &Roadstead, with: &str) -> Figure {
    let (status, took) = asked(roadstead.address, &manifest_path("never-pulled")).await;
    assert!(matches!(status, 502 | 504), "{status} for a tag that cannot be had");
    Figure::seconds(format!("uncached tag ({status}), {with}"), took)
}

/// Upstream is back, and Roadstead begins without connections and without doubts.
async fn again(namespace: &Namespace, roadstead: Roadstead) -> Settings {
    let settings = roadstead.stop().await;
    namespace.heal();
    settings
}
