//! T151: no secret of a cloud is told, kept on disk, or sent to a place that the cloud does not name.

use std::fmt::Write as _;

use super::aws::{Aws, REGISTRY, SECRET, accepts};
use super::{blob_path, config, default_authority};
use crate::support::client::Client;
use crate::support::cloud::{Answer, CloudServer};
use crate::support::log::Log;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

#[tokio::test]
async fn t151_no_secret_of_a_cloud_is_told_or_on_disk() {
    let log = Log::begin();
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    accepts(&upstream, 1);
    let digest = upstream.blob("team/app", blob(1000, 1));
    let mirror = aws.mirror(&upstream).start().await;
    let path = blob_path("team/app", &digest);
    let mut said = String::new();
    // What the cloud says is an echo of the request's own secrets.
    for status in [403, 500, 302, 0] {
        aws.fail(status);
        let answer = mirror.client().get(&path).await;
        writeln!(said, "{:?} {}", answer.headers, answer.text()).unwrap();
        said.push_str(&Client::new(mirror.admin).get("/readyz").await.text());
        said.push_str(&Client::new(mirror.admin).get("/api/v1/status").await.text());
        mirror.advance(std::time::Duration::from_secs(11));
    }
    assert_eq!(mirror.client().get(&path).await.status, 200);
    said.push_str(&Client::new(mirror.admin).get("/metrics").await.text());
    said.push_str(&log.text());
    assert!(said.contains("AccessDeniedException") && said.contains("no_identity"), "{said}");
    let stopped = mirror.stop().await;
    for file in files_below(&stopped.storage()) {
        said.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap()));
    }
    for secret in ["MARKER", "AWS4-HMAC", "QVdTOk1BUktFU"] {
        assert!(!said.contains(secret), "{secret} is told");
    }
}

#[tokio::test]
async fn t150_a_redirect_of_a_cloud_leads_nowhere() {
    let canary = Canary::listen();
    let to = canary.url();
    for status in [301, 302, 307, 308] {
        let to = to.clone();
        let cloud = CloudServer::start(move |_| Answer(status, vec![("location", to.clone())], String::new())).await;
        let upstream = Upstream::start().await;
        accepts(&upstream, 1);
        let toml = config(REGISTRY, &upstream.url(), "auth = \"ecr\"");
        for metadata in [false, true] {
            let mirror = Mirror::builder(&*toml).server(&default_authority(REGISTRY));
            let mirror = mirror.variable("AWS_ENDPOINT_URL_ECR", cloud.url());
            let mirror = if metadata {
                mirror.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.url())
            } else {
                mirror.variable("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").variable("AWS_SECRET_ACCESS_KEY", SECRET)
            };
            let mirror = mirror.start().await;
            let answer = mirror.client().get(&blob_path("team/app", &sha256(b"x"))).await;
            assert_eq!(answer.status, 502);
            assert!(answer.text().contains(&format!("refuses with status {status}")), "{}", answer.text());
        }
        assert_eq!(cloud.asked().len(), 2);
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn t153_an_answer_of_a_cloud_that_is_endless_or_nonsense_is_refused() {
    for (body, why) in [
        ("x".repeat(300_000), "it is too long"),
        ("{\"authorizationData\":[]}".to_owned(), "without a token"),
        ("{\"authorizationData\":[{\"authorizationToken\":\"!\"}]}".to_owned(), "without a token that can be read"),
        ("<html>".to_owned(), "without a token"),
    ] {
        let cloud = CloudServer::start(move |_| Answer::ok(body.clone())).await;
        let upstream = Upstream::start().await;
        accepts(&upstream, 1);
        let mirror = Mirror::builder(config(REGISTRY, &upstream.url(), "auth = \"ecr\""));
        let mirror = mirror.server(&default_authority(REGISTRY)).variable("AWS_ENDPOINT_URL_ECR", cloud.url());
        let mirror = mirror.variable("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").variable("AWS_SECRET_ACCESS_KEY", SECRET);
        let mirror = mirror.start().await;
        let answer = mirror.client().get(&blob_path("team/app", &sha256(b"x"))).await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(why), "{}", answer.text());
    }
}
