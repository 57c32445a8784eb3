//! A mirror behind a mirror, and a mirror behind itself.

use std::time::Duration;

use super::upstream;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn a_mirror_that_is_its_own_upstream_says_so_at_once() {
    // The port is known before the mirror is: an upstream held it, and gave it back.
    let port = Upstream::start().await;
    let address = port.address();
    port.stop().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"http://{address}\"\n");
    let mirror = Mirror::builder(toml).listen(&address.to_string()).start().await;
    let client = mirror.client();
    let digest = format!("sha256:{}", "0".repeat(64));
    for path in
        ["manifests/1".to_owned(), "tags/list".to_owned(), format!("blobs/{digest}"), format!("referrers/{digest}")]
    {
        let answer = client.get(&format!("/v2/org/app/{path}")).await;
        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert_ne!(answer.header("x-request-id"), "");
    }
}

#[tokio::test]
async fn two_mirrors_that_are_each_others_upstream_say_so_at_once() {
    let port = Upstream::start().await;
    let address = port.address();
    port.stop().await;
    let second = Mirror::of("docker.io", format!("http://{address}")).await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", second.url(""));
    let first = Mirror::builder(toml).listen(&address.to_string()).start().await;
    let answer = first.client().get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    // Neither waited for the other until a deadline ended it.
    assert!(!answer.text().contains("in time"), "{}", answer.text());
}

#[tokio::test]
async fn a_request_with_our_own_via_is_a_loop_and_any_other_is_not() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    let client = mirror.client();
    let path = "/v2/org/app/manifests/1";
    let foreign = [("via", "1.1 roadstead-0000000000000000"), ("via", "1.1 nginx, 1.0 squid")];
    assert_eq!(client.send(http::Method::GET, path, &foreign).await.status, 200);
    let own = registry.requests()[0].header("via").unwrap().to_owned();
    for via in [own.clone(), format!("1.0 squid, {own}"), format!("{own},1.1 nginx")] {
        let answer = client.send(http::Method::GET, path, &[("via", &via)]).await;
        assert_eq!(answer.status, 502, "{via}");
        assert!(answer.text().contains("leads back to this mirror"), "{}", answer.text());
        assert_eq!(client.send(http::Method::GET, "/v2/", &[("via", &via)]).await.status, 502);
    }
}

#[tokio::test]
async fn a_mirror_behind_a_mirror_is_told_the_namespace() {
    let registry = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    registry.publish("org/app", "1", &app);
    registry.tag("org/app", "2", &app.digest);
    registry.page_size(1);
    let far = Mirror::start(upstream("quay.io", &registry, "")).await;
    let toml = format!("[upstreams.\"quay.io\"]\nurl = \"http://{}\"\nforward_ns = true\n", far.address);
    let near = Mirror::start(toml).await;
    let client = near.client();
    let answer = client.get("/v2/quay.io/org/app/manifests/1").await;
    assert_eq!((answer.status, answer.body), (200, app.manifest.clone()));
    let layer = &app.layers()[0];
    let answer = client.get(&format!("/v2/quay.io/org/app/blobs/{}", layer.digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, layer.digest.clone()));
    // The far mirror's `Link` carries the `ns` that the near one adds again.
    let first = client.get("/v2/quay.io/org/app/tags/list?n=1").await;
    assert_eq!(first.json()["tags"], serde_json::json!(["1"]));
    let next = first.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert_eq!(client.get(&next).await.json()["tags"], serde_json::json!(["2"]));
    let subject = format!("/v2/quay.io/org/app/referrers/{}", app.digest);
    assert_eq!(client.get(&subject).await.status, 200);
    assert!(registry.requests().iter().all(|request| request.query.find("ns=").is_none()));
    far.advance(Duration::from_mins(2));
    near.advance(Duration::from_mins(2));
    registry.forget_requests();
    assert_eq!(client.head("/v2/quay.io/org/app/manifests/1").await.status, 200);
    assert_eq!(registry.requests().len(), 1, "one HEAD goes all the way");
}
