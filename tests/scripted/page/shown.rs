//! What the page shows.

use super::{Browser, NOWHERE, with_token};
use crate::looking::Site;
use crate::support::client::{Client, raw};
use crate::support::image::{Builder, image};
use crate::support::mirror::{Mirror, quiet};
use crate::support::upstream::*;

async fn page(site: &Site, path: &str) -> String {
    let answer = Browser::new(&site.mirror).get(path).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
    answer.text()
}

fn has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text} is not in {page}");
    }
}

#[tokio::test]
async fn the_overview_shows_traffic_upstreams_failures_and_what_to_do() {
    let site = Site::start().await;
    site.registry.script(manifests().repository("org/bad").always().status(500));
    assert_eq!(site.mirror.client().get("/v2/org/bad/manifests/1").await.status, 502);
    let shown = page(&site, "/").await;
    has(&shown, &["Hit ratio", "Saved", "Held", "Evicted", "docker.io", "All is well"]);
    has(
        &shown,
        &["/image?reference=docker.io%2Forg%2Fbad%3A1", "failed with status 500", "see the registry's own status"],
    );
    has(&shown, &["Nothing is being downloaded", "No answer took longer than a second"]);
}

#[tokio::test]
async fn the_overview_shows_what_is_wrong() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    upstream.stop().await;
    assert_eq!(mirror.client().get("/v2/library/app/manifests/1").await.status, 502);
    let shown = Browser::new(&mirror).get("/").await.text();
    has(&shown, &["docker.io is unreachable", "check network, DNS and proxy"]);
    assert!(!shown.contains("All is well"), "{shown}");
}

#[tokio::test]
async fn a_download_is_shown_while_it_runs() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(1_000_000, 1));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(300_000, &gate));
    let (client, path) = (mirror.client(), format!("/v2/library/app/blobs/{digest}"));
    let pull = tokio::spawn(async move { client.get(&path).await });
    gate.arrived().await;
    let shown = Browser::new(&mirror).get("/").await.text();
    has(&shown, &["docker.io/library/app", &digest, "max=\"1000000\""]);
    gate.open();
    assert_eq!(pull.await.unwrap().status, 200);
    quiet(&mirror).await;
    has(&Browser::new(&mirror).get("/").await.text(), &["Nothing is being downloaded"]);
}

#[tokio::test]
async fn a_search_finds_repositories_images_and_digests() {
    let site = Site::start().await;
    has(&page(&site, "/repositories").await, &["docker.io/org/app", "docker.io/org/tool", "Held: 2"]);
    for (search, found, other) in [
        ("too", "org/tool", "org/app"),
        ("ORG%2Fa", "org/app", "org/tool"),
        ("docker.io%2Forg%2Ft*", "org/tool", "org/app"),
    ] {
        let shown = page(&site, &format!("/repositories?q={search}")).await;
        has(&shown, &["1 found for", &format!("name=docker.io%2F{}", found.replace('/', "%2F"))]);
        assert!(!shown.contains(&format!("name=docker.io%2F{}", other.replace('/', "%2F"))), "{search}: {shown}");
    }
    has(&page(&site, "/repositories?q=nobody").await, &["No repository of this name is held"]);
    for search in ["docker.io/org/app:1", &site.app.digest] {
        let query = url::form_urlencoded::byte_serialize(search.as_bytes()).collect::<String>();
        let answer = Browser::new(&site.mirror).get(&format!("/repositories?q={query}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, &*format!("/image?reference={query}")));
        assert_eq!(Browser::new(&site.mirror).get(answer.header("location")).await.status, 200);
    }
}

#[tokio::test]
async fn a_repository_shows_its_tags_and_where_they_pointed() {
    let site = Site::start().await;
    let moved = image(&[blob(100, 9)]);
    site.registry.publish("org/app", "amd64", &moved);
    site.mirror.advance(std::time::Duration::from_hours(24));
    assert_eq!(site.mirror.client().get("/v2/org/app/manifests/amd64").await.status, 200);
    let shown = page(&site, "/repository?name=docker.io/org/app").await;
    has(&shown, &["docker.io%2Forg%2Fapp%3A1", "docker.io%2Forg%2Fapp%3Aamd64", "linux/amd64", "some platforms"]);
    has(&shown, &["2 digests", &site.amd64.digest, &moved.digest]);
    let shown = page(&site, "/repository?name=docker.io/org/app&glob=1*").await;
    assert!(shown.contains("app%3A1\"") && !shown.contains("app%3Aamd64\""), "{shown}");
}

#[tokio::test]
async fn an_image_shows_its_platforms_its_layers_and_which_are_held() {
    let site = Site::start().await;
    let shown = page(&site, "/image?reference=docker.io/org/app:1").await;
    has(&shown, &["linux/amd64", "linux/arm64", "not pulled", "3 of 3", &site.arm64.digest]);
    let shown = page(&site, "/image?reference=docker.io/org/app:amd64").await;
    for part in &site.amd64.blobs {
        has(&shown, &[&part.digest]);
    }
    has(&shown, &["Contents", "config", "layer", ">held<", "Show the config"]);
    assert!(!shown.contains("not held"), "{shown}");
    let layer = &site.amd64.layers()[0].digest;
    has(&page(&site, &format!("/image?reference={layer}")).await, &[layer, "docker.io"]);
}

#[tokio::test]
async fn an_image_shows_its_referrers() {
    let upstream = Upstream::start().await;
    let signed = image(&[blob(100, 1)]);
    let signature = Builder::new().layer(blob(10, 2)).artifact_type("application/x.sig").subject(&signed).build();
    upstream.publish("org/app", "1", &signed);
    upstream.publish("org/app", "sig", &signature);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    mirror.pull_whole("org/app", "sig").await;
    let shown = Browser::new(&mirror).get("/image?reference=docker.io/org/app:1").await.text();
    has(&shown, &["Referrers", "application/x.sig", &signature.digest]);
    let shown = Browser::new(&mirror).get("/image?reference=docker.io/org/app:sig").await.text();
    has(&shown, &["Subject", &signed.digest]);
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let upstream = Upstream::start().await;
    let app = image(&[blob(100, 1)]);
    for nth in 0..103 {
        upstream.publish("org/app", &format!("v{nth:03}"), &app);
    }
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for nth in 0..103 {
        assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/v{nth:03}")).await.status, 200);
    }
    let browser = Browser::new(&mirror);
    let first = browser.get("/repository?name=docker.io/org/app").await.text();
    assert_eq!((first.matches("role=\"rowheader\"").count(), first.contains("First page")), (100, false));
    let next = first.split("href=\"").find(|link| link.contains("rel=\"next\"")).unwrap();
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let second = browser.get(&next).await.text();
    assert_eq!((second.matches("role=\"rowheader\"").count(), second.contains("Next page")), (3, false));
    has(&second, &["v102", "First page"]);
}

#[tokio::test]
async fn what_is_not_held_is_404_and_what_is_no_name_is_400() {
    let mirror = Mirror::start(NOWHERE).await;
    let browser = Browser::new(&mirror);
    for (path, status) in [
        ("/image?reference=docker.io/org/none:1", 404),
        ("/image?reference=sha256:00000000", 404),
        ("/image?reference=A", 400),
        ("/image", 400),
        ("/repository?name=docker.io/org/none", 404),
        ("/repository?name=quay.io/org/none", 404),
        ("/repository?name=", 400),
        ("/repositories?q=**a*", 400),
        ("/repositories?sort=colour", 400),
        ("/repositories?after=x", 400),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        has(&answer.text(), &["<!DOCTYPE html>", "role=\"alert\""]);
    }
    for path in ["/page", "/image/", "/page.css/x", "/index.html"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn t134_every_answer_forbids_scripts_frames_and_what_is_from_elsewhere() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let browser = Browser::new(&mirror);
    let mut answers = Vec::new();
    for path in ["/", "/repositories", "/pins", "/jobs", "/sign-in", "/page.css", "/icon.svg", "/image"] {
        answers.push(browser.get(path).await);
    }
    answers.push(browser.post("/pin", &[]).await);
    answers.push(browser.post("/sign-in", &[("token", "wrong")]).await);
    answers.push(browser.post("/", &[]).await);
    for answer in answers {
        let policy = answer.header("content-security-policy");
        let directives: Vec<&str> = policy.split("; ").collect();
        for needed in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(directives.contains(&needed), "{needed} is not in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        let text = answer.text();
        assert!(!text.contains("<script") && !text.contains("<style") && !text.contains("style="), "{text}");
    }
    assert_eq!(Browser::new(&mirror).get("/").await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn t57_the_page_answers_to_no_name_of_another() {
    let mirror = Mirror::start(NOWHERE).await;
    let answer = raw(mirror.admin, "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("<html"), "{answer}");
    let head = Client::new(mirror.admin).head("/").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}
