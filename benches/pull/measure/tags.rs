use super::Bench;
use crate::client::Client;
use crate::programs::Settings;
use crate::pull::{REPOSITORY, blob_path, manifest_path};
use crate::report::Figure;
use crate::support::image::image;
use crate::support::upstream::{Upstream, blob};

/// A client pulls a whole image by its tag, again and again within `tag_ttl`.
pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let pulls = bench.scale(1000, 10);
    let upstream = Upstream::start().await;
    let image = image(&[blob(100_000, 1), blob(100_000, 2)]);
    upstream.publish(REPOSITORY, "1", &image);
    let roadstead = Settings::new(bench.folder("tags"), &upstream.url(), "1h").start().await;
    let blobs = image.blobs.iter().map(|blob| blob_path(&blob.digest));
    let paths: Vec<_> = std::iter::once(manifest_path("1")).chain(blobs).collect();
    let mut client = Client::connect(roadstead.address).await.expect("Roadstead accepts connections");
    pull(&mut client, &paths).await;
    assert_ne!(upstream.requests().len(), 0, "the first pull comes from upstream");
    upstream.forget_requests();
    for _pull in 0..pulls {
        pull(&mut client, &paths).await;
    }
    for request in upstream.requests() {
        eprintln!("upstream was asked: {}", request.line());
    }
    let requests = upstream.requests().len() as f64 / f64::from(pulls);
    roadstead.stop().await;
    vec![Figure::promised(format!("upstream requests per image pull by a fresh tag, {pulls} pulls"), requests, 0.0)]
}

async fn pull(client: &mut Client, paths: &[String]) {
    for path in paths {
        let head = client.get(path).await.expect("Roadstead answers");
        assert_eq!(head.status, 200, "{path}");
        client.discard().await.expect("a body comes to its end");
    }
}
