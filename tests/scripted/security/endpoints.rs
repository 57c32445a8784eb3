//! Endpoints with a path, and several of them.

use std::time::Duration;

use super::{APP, blob_path, publish_app};
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn several(urls: &[String], lines: &str) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!("[upstreams.\"docker.io\"]\nendpoints = [{}]\n{lines}\n", urls.join(", "))
}

#[tokio::test]
async fn the_path_of_an_endpoint_is_a_prefix_of_repositories_and_of_scopes() {
    let harbor = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    harbor.publish("hub-proxy/library/app", "v1", &app);
    let auth = TokenAuth::new();
    harbor.token_auth(&auth);
    let mirror = Mirror::of("docker.io", format!("{}/hub-proxy", harbor.url())).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200);
    assert_eq!(auth.issued()[0].repositories, ["hub-proxy/library/app"]);
    assert_eq!(mirror.client().get("/v2/library/app/tags/list").await.json()["name"], "library/app");
}

#[tokio::test]
async fn the_next_endpoint_is_asked_when_one_cannot_answer() {
    type Failure = fn(Step) -> Step;
    let failures: [(&str, Failure); 5] = [
        ("500", |step| step.status(500)),
        ("503", |step| step.status(503)),
        ("429", |step| step.too_many_requests("30")),
        ("cut", Step::cut_before_headers),
        ("silence", Step::hang_before_headers),
    ];
    for (name, failure) in failures {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let app = publish_app(&second);
        publish_app(&first);
        first.script(failure(every_request().always()));
        let toml = several(&[first.url(), second.url()], "response_timeout = \"1s\"");
        let mirror = Mirror::start(toml).await;
        assert_eq!(mirror.client().get(APP).await.status, 200, "{name}");
        assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200, "{name}");
        assert!(!first.requests().is_empty(), "{name}: in their order");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_or_swallows_packets_is_passed_over() {
    let second = Upstream::start().await;
    publish_app(&second);
    let refused = Canary::listen().url();
    let hole = BlackHole::open();
    for dead in [refused, hole.url()] {
        let mirror = Mirror::start(several(&[dead.clone(), second.url()], "connect_timeout = \"1s\"")).await;
        assert_eq!(mirror.client().get(APP).await.status, 200, "{dead}");
    }
}

#[tokio::test]
async fn what_an_endpoint_denies_or_does_not_have_is_final() {
    for (status, expected) in [(401, 403), (403, 403), (404, 404)] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        publish_app(&second);
        first.script(every_request().always().status(status));
        let mirror = Mirror::start(several(&[first.url(), second.url()], "")).await;
        assert_eq!(mirror.client().get(APP).await.status, expected);
        assert_eq!(second.requests().len(), 0, "{status}");
    }
}

/// Near, and without everything, in front of one that has it.
async fn partial_and_whole(lines: &str) -> (Upstream, Upstream, Mirror) {
    let (near, whole) = (Upstream::start().await, Upstream::start().await);
    let endpoints = format!("[{{ url = \"{}\", partial = true }}, \"{}\"]", near.url(), whole.url());
    let toml = format!("[upstreams.\"docker.io\"]\nendpoints = {endpoints}\n{lines}\n");
    let mirror = Mirror::start(toml).await;
    (near, whole, mirror)
}

#[tokio::test]
async fn what_a_partial_endpoint_does_not_have_is_asked_of_the_next() {
    let (near, whole, mirror) = partial_and_whole("").await;
    let app = publish_app(&whole);
    let layer = blob_path("library/app", &app.layers()[0].digest);
    let client = mirror.client();
    assert_eq!(client.get(APP).await.status, 200);
    assert_eq!(client.head(&layer).await.status, 200);
    assert_eq!(client.get(&layer).await.status, 200);
    assert_eq!(client.get("/v2/library/app/tags/list").await.json()["tags"][0], "v1");
    assert_eq!(client.get(&format!("/v2/library/app/referrers/{}", app.digest)).await.status, 200);
    assert!(!near.requests().is_empty(), "in their order");
    for path in ["/v2/library/app/manifests/none", "/v2/library/none/tags/list"] {
        assert_eq!(client.get(path).await.status, 404, "{path}: neither has it");
    }
    mirror.advance(Duration::from_mins(1));
    assert_eq!(client.get(APP).await.header("warning"), "", "a check asks the next too");
}

#[tokio::test]
async fn what_a_partial_endpoint_does_not_have_is_not_missing_while_the_next_cannot_answer() {
    let (_near, whole, mirror) = partial_and_whole("").await;
    let app = publish_app(&whole);
    mirror.pull_whole("library/app", "v1").await;
    whole.script(every_request().always().status(503));
    mirror.advance(Duration::from_mins(1));
    let held = mirror.client().get(APP).await;
    assert_eq!((held.status, &held.header("warning")[..3]), (200, "299"), "no 404, and no tombstone");
    assert_eq!(mirror.client().get("/v2/library/app/manifests/other").await.status, 502);
    whole.stop().await;
    for _asked_and_shut in 0..2 {
        assert_eq!(mirror.client().get("/v2/library/app/manifests/other").await.status, 502);
    }
    assert_eq!(mirror.client().get(&format!("/v2/library/app/manifests/{}", app.digest)).await.status, 200);
}

#[tokio::test]
async fn when_no_endpoint_answers_the_error_names_the_one_that_was_asked() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.script(every_request().always().too_many_requests("60"));
    second.script(every_request().always().status(503));
    let mirror = Mirror::start(several(&[first.url(), second.url()], "")).await;
    assert_eq!(mirror.client().get(APP).await.status, 429);
    // The first is not asked now: what the second says is the news.
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains(&second.host()) && answer.text().contains("503"), "{}", answer.text());
    mirror.advance(Duration::from_mins(1));
    first.clear_script();
    publish_app(&first);
    assert_eq!(mirror.client().get(APP).await.status, 200);
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_at_the_next_endpoint() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let content = blob(1_000_000, 1);
    let digest = first.blob("org/app", &content);
    second.blob("org/app", &content);
    first.script(blobs().once().cut_after(400_000));
    let mirror = Mirror::start(several(&[first.url(), second.url()], "")).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    assert_eq!(second.requests_of(&blobs())[0].range.as_deref(), Some("bytes=400000-"));
}

#[tokio::test]
async fn a_path_that_ends_in_v2_is_where_the_api_is() {
    let artifactory = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    let below = "/artifactory/api/docker/hub/v2/library/app";
    artifactory.file(&format!("{below}/manifests/v1"), app.manifest.clone());
    artifactory.file(&format!("{below}/blobs/{}", app.layers()[0].digest), &app.layers()[0].content);
    for end in ["v2", "v2/"] {
        let mirror = Mirror::of("docker.io", format!("{}/artifactory/api/docker/hub/{end}", artifactory.url())).await;
        assert_eq!(mirror.client().get(APP).await.body, app.manifest, "{end}");
        assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200, "{end}");
    }
    assert!(artifactory.requests().iter().all(|request| request.path.starts_with(below)));
}
