//! T9: a registry's front door says yes to everything. Its page, at any name, is no proof that a repository has a digest.

use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

/// A private image in one repository; every other repository answers 200 with a page.
async fn behind_a_front_door() -> (Upstream, Mirror, String, String) {
    let upstream = Upstream::start().await;
    let app = image(&[blob(SIZE, 1)]);
    upstream.publish("private/app", "1", &app);
    let elsewhere = |r: &Recorded| r.repository.as_deref() != Some("private/app");
    upstream.script(every_request().when(elsewhere).always().html());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let layer = app.layers()[0].digest.clone();
    (upstream, mirror, app.digest.clone(), layer)
}

#[tokio::test]
async fn t9_a_page_at_a_manifests_name_opens_no_stored_manifest() {
    let (_upstream, mirror, manifest, _) = behind_a_front_door().await;
    let client = mirror.client();
    assert_eq!(client.get(&format!("/v2/private/app/manifests/{manifest}")).await.status, 200);
    let answer = client.get(&format!("/v2/public/door/manifests/{manifest}")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(client.get(&format!("/v2/private/app/manifests/{manifest}")).await.status, 200);
}

#[tokio::test]
async fn t9_a_page_at_a_blobs_name_opens_neither_a_stored_blob_nor_a_running_fill() {
    let (upstream, mirror, _, layer) = behind_a_front_door().await;
    let client = mirror.client();
    let gate = Gate::closed();
    upstream.script(blobs().get().repository("private/app").once().stall_after(100_000, &gate));
    let path = format!("/v2/private/app/blobs/{layer}");
    let running = tokio::spawn({
        let (client, path) = (client.clone(), path.clone());
        async move { client.get(&path).await }
    });
    gate.arrived().await;
    let joined = tokio::spawn({
        let client = client.clone();
        let path = format!("/v2/public/door/blobs/{layer}");
        async move { client.get(&path).await }
    });
    upstream.wait_for(1, blobs().repository("public/door")).await;
    gate.open();
    assert_eq!(running.await.unwrap().status, 200);
    let joined = joined.await.unwrap();
    assert_eq!(joined.status, 502, "{}", joined.text());
    let stored = client.get(&format!("/v2/public/door/blobs/{layer}")).await;
    assert_eq!(stored.status, 502, "{}", stored.text());
}
