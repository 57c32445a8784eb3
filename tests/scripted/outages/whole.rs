//! While upstream cannot be asked, a manifest is given only if the client can go on with it.

use super::{LATER, QUICK, REPOSITORY, blob_status, tag, upstream};
use crate::support::image::{Builder, Image, image, index};
use crate::support::mirror::{Mirror, files_below, quiet};
use crate::support::upstream::*;

async fn held(registry: &Upstream, images: &[(&str, &Image)]) -> Mirror {
    for (tag, image) in images {
        registry.publish(REPOSITORY, tag, image);
    }
    let mirror = Mirror::start(upstream(registry, QUICK)).await;
    for (name, _) in images {
        assert_eq!(tag(&mirror, REPOSITORY, name).await, 200);
    }
    mirror
}

async fn pull(mirror: &Mirror, digest: &str) {
    assert_eq!(blob_status(mirror, REPOSITORY, digest).await, 200);
    quiet(mirror).await;
}

async fn by_digest(mirror: &Mirror, image: &Image) -> (u16, String) {
    let answer = mirror.client().get(&format!("/v2/{REPOSITORY}/manifests/{}", image.digest)).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn an_artifact_whose_config_nobody_reads_is_served_without_it() {
    let registry = Upstream::start().await;
    let chart = Builder::new().artifact_type("application/vnd.cncf.helm.config.v1+json").layer(blob(500, 1)).build();
    let mirror = held(&registry, &[("1", &chart)]).await;
    pull(&mirror, &chart.layers()[0].digest).await;
    registry.stop().await;
    mirror.advance(LATER);
    assert_eq!(tag(&mirror, REPOSITORY, "1").await, 200, "as Flux, Helm, cosign and oras read it");
}

#[tokio::test]
async fn an_index_is_served_if_one_of_its_images_is_whole_and_refused_if_none_is() {
    let registry = Upstream::start().await;
    let (first, second) = (image(&[blob(500, 1)]), image(&[blob(500, 2)]));
    let (whole, hollow) = (index(&[&first, &second]), index(&[&second]));
    let mirror = held(&registry, &[("whole", &whole), ("hollow", &hollow), ("first", &first)]).await;
    for part in std::iter::once(first.config()).chain(first.layers()) {
        pull(&mirror, &part.digest).await;
    }
    registry.stop().await;
    mirror.advance(LATER);
    let answer = mirror.client().get(&format!("/v2/{REPOSITORY}/manifests/whole")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let refused = mirror.client().get(&format!("/v2/{REPOSITORY}/manifests/hollow")).await;
    assert_eq!(refused.status, 502);
    assert!(refused.text().contains("none of its 1 images is held whole"), "{}", refused.text());
    assert_eq!(by_digest(&mirror, &whole).await.0, 200);
    assert_eq!(by_digest(&mirror, &hollow).await.0, 502, "by digest alike");
}

#[tokio::test]
async fn a_manifest_by_digest_whose_blob_is_missing_is_refused_with_what_is_missing_until_upstream_is_back() {
    let registry = Upstream::start().await;
    let image = image(&[blob(500, 1)]);
    let mirror = held(&registry, &[("1", &image)]).await;
    pull(&mirror, &image.config().digest).await;
    assert_eq!(by_digest(&mirror, &image).await.0, 200, "while upstream is well, nothing changes");
    registry.script(every_request().always().hang_before_headers());
    let missing = image.layers()[0].digest.as_str();
    assert_ne!(blob_status(&mirror, REPOSITORY, missing).await, 200, "the mirror learns that upstream is away");
    let (status, text) = by_digest(&mirror, &image).await;
    assert_eq!(status, 504);
    assert!(text.contains("1 of its 2 blobs cannot be served") && text.contains(missing), "{text}");
    registry.clear_script();
    assert_eq!(by_digest(&mirror, &image).await.0, 200, "upstream is back");
}

#[tokio::test]
async fn a_ration_of_manifests_alone_refuses_no_image_and_one_of_blobs_too_refuses_what_is_not_whole() {
    let registry = Upstream::start().await;
    let (part, whole) = (image(&[blob(500, 1)]), image(&[blob(500, 2)]));
    let mirror = held(&registry, &[("part", &part), ("whole", &whole)]).await;
    for blob in std::iter::once(whole.config()).chain(whole.layers()) {
        pull(&mirror, &blob.digest).await;
    }
    mirror.advance(LATER);
    registry.script(manifests().always().too_many_requests("60"));
    assert_eq!(tag(&mirror, REPOSITORY, "part").await, 200, "its blobs can still be fetched");
    registry.script(every_request().always().too_many_requests("600"));
    assert_eq!(blob_status(&mirror, REPOSITORY, &part.layers()[0].digest).await, 429);
    for (name, status) in [("part", 502), ("whole", 200)] {
        assert_eq!(tag(&mirror, REPOSITORY, name).await, status, "{name}: podman then asks its own registry");
    }
    assert_eq!(by_digest(&mirror, &part).await.0, 502);
}

#[tokio::test]
async fn t95_an_index_of_many_images_that_are_not_whole_is_refused_for_little() {
    let registry = Upstream::start().await;
    let images: Vec<Image> = (0..150)
        .map(|nth| {
            let layers = [blob(10, 1000 + nth), blob(10, 2000 + nth)];
            layers.iter().fold(Builder::new().padding(200_000), |builder, layer| builder.layer(layer.clone())).build()
        })
        .collect();
    let all = index(&images.iter().collect::<Vec<_>>());
    let mirror = held(&registry, &[("all", &all)]).await;
    let mut overwritten = Vec::new();
    for image in &images {
        assert_eq!(by_digest(&mirror, image).await.0, 200);
    }
    registry.stop().await;
    mirror.advance(LATER);
    assert_eq!(tag(&mirror, REPOSITORY, "all").await, 502);
    // None of them is in memory, and none is read: what is wrong with it would be found.
    let mirror = mirror.restart().await;
    let files = files_below(&mirror.storage().join("blobs"));
    for image in &images {
        let name = image.digest.split(':').nth(1).unwrap();
        let file = files.iter().find(|file| file.ends_with(name)).unwrap();
        let written = std::fs::metadata(file).unwrap().modified().unwrap();
        let right = std::fs::read(file).unwrap();
        std::fs::write(file, vec![7; right.len()]).unwrap();
        overwritten.push((file.clone(), right, written));
        std::fs::File::options().write(true).open(file).unwrap().set_modified(written).unwrap();
    }
    mirror.advance(LATER);
    assert_eq!(tag(&mirror, REPOSITORY, "all").await, 502, "the mirror learns that upstream is away");
    for _ in 0..20 {
        assert_eq!(by_digest(&mirror, &all).await.0, 502);
    }
    assert!(files_below(&mirror.storage().join("quarantine")).is_empty());
    for (file, right, written) in overwritten {
        std::fs::write(&file, right).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
    }
    // One that comes last and is whole is found.
    registry.restart().await;
    let last = &images[149];
    for part in std::iter::once(last.config()).chain(last.layers()) {
        pull(&mirror, &part.digest).await;
    }
    registry.stop().await;
    mirror.advance(LATER);
    assert_eq!(tag(&mirror, REPOSITORY, "all").await, 200);
    assert_eq!(by_digest(&mirror, &all).await.0, 200);
}
