//! Buttons: what the page changes, for those who may.

use super::{Browser, NOWHERE, with_token};
use crate::looking::api;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::upstream::*;

#[tokio::test]
async fn pins_are_added_and_removed() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let browser = Browser::signed_in(&mirror).await;
    let pinned = async || api(&mirror, "pins").await.1["pins"].as_array().unwrap().len();
    let answer = browser.post("/pin", &[("pattern", "docker.io/org/**")]).await;
    assert_eq!((answer.status, answer.header("location"), pinned().await), (303, "/pins", 1));
    let page = browser.get("/pins").await.text();
    assert!(page.contains("docker.io/org/**") && page.contains("action=\"/unpin\""), "{page}");
    assert_eq!(browser.post("/pin", &[("pattern", "x:")]).await.status, 400);
    assert_eq!(browser.post("/unpin", &[("pattern", "docker.io/other")]).await.status, 404);
    assert_eq!((browser.post("/unpin", &[("pattern", "docker.io/org/**")]).await.status, pinned().await), (303, 0));
}

#[tokio::test]
async fn a_refresh_tells_where_each_tag_points_now() {
    let upstream = Upstream::start().await;
    let (before, after) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    upstream.publish("org/app", "1", &before);
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", upstream.url());
    let (mirror, _directory) = with_token(toml, "127.0.0.1:0").await;
    mirror.pull_whole("org/app", "1").await;
    let browser = Browser::signed_in(&mirror).await;
    let page = browser.get("/image?reference=docker.io/org/app:1").await.text();
    assert!(
        ["action=\"/refresh\"", "action=\"/pin\"", "Pin to this digest"].iter().all(|text| page.contains(text)),
        "{page}"
    );
    let refreshed = async || browser.post("/refresh", &[("glob", "docker.io/org/app:1")]).await.text();
    assert!(refreshed().await.contains("as before"));
    upstream.publish("org/app", "1", &after);
    let page = refreshed().await;
    assert!(page.contains("moved") && page.contains(&after.digest), "{page}");
    let page = browser.get("/image?reference=docker.io/org/app:1").await.text();
    assert!(page.contains("History") && page.contains(&before.digest), "{page}");
}

#[tokio::test]
async fn verification_is_begun_and_shown() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let browser = Browser::signed_in(&mirror).await;
    assert_eq!(browser.post("/verify", &[("rate", "fast")]).await.status, 400);
    let answer = browser.post("/verify", &[("rate", "")]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/jobs"));
    eventually("it is done", async || browser.get("/jobs").await.text().contains(">done<")).await;
}

#[tokio::test]
async fn t134_a_form_is_bounded_and_nothing_else_is_taken_for_one() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let browser = Browser::signed_in(&mirror).await;
    assert_eq!(browser.post("/pin", &[("pattern", &"x".repeat(70_000))]).await.status, 413);
    let headers = [("origin", browser.origin.as_str()), ("cookie", browser.cookie.as_deref().unwrap())];
    for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
        let headers = [&headers[..], &[("content-type", kind)]].concat();
        let answer = Client::new(mirror.admin).post("/pin", &headers, "pattern=docker.io/a".to_owned()).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
    for path in ["/pin", "/unpin", "/refresh", "/verify", "/sign-out"] {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}");
    }
    assert_eq!(api(&mirror, "pins").await.1["pins"].as_array().unwrap().len(), 0);
}
