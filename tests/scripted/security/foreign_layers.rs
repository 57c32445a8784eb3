//! T5: `urls` of a manifest are the client's business.

use super::{APP, blob_path};
use crate::support::image::Builder;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t5_urls_in_a_manifest_are_served_as_they_are_and_never_followed() {
    let (upstream, canary) = (Upstream::start().await, Canary::listen());
    let content = blob(10_000, 1);
    let url = format!("{}/layer", canary.url());
    let app = Builder::new().layer_from(content.clone(), std::slice::from_ref(&url)).build();
    upstream.publish("library/app", "v1", &app);
    let layer = app.layers()[0].digest.clone();
    upstream.remove_blob("library/app", &layer);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(APP).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, app.digest.clone()));
    assert!(answer.text().contains(&url), "not rewritten");
    let missing = mirror.client().get(&blob_path("library/app", &layer)).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "BLOB_UNKNOWN"));
    canary.assert_untouched();
}
