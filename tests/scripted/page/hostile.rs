//! What registries, builders and clients choose is text, and nothing else.

use serde_json::json;

use super::{Browser, with_token};
use crate::support::image::Builder;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;";

/// All tags of a page, as they are written.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
}

/// Nothing but our own elements, and no attribute that does anything.
fn is_harmless(page: &str) {
    const OWN: [&str; 40] = [
        "!DOCTYPE", "html", "head", "meta", "title", "link", "body", "a", "header", "nav", "form", "input", "button",
        "main", "footer", "span", "h1", "h2", "p", "strong", "ul", "li", "ol", "dl", "div", "dt", "dd", "section",
        "table", "thead", "tbody", "tr", "th", "td", "time", "code", "progress", "details", "summary", "pre",
    ];
    for tag in tags(page) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        assert!(OWN.contains(&name) || ["label", "q"].contains(&name), "<{tag}>");
        // Between quotation marks, there are values.
        for (nth, outside) in tag.split('"').enumerate() {
            assert!(nth % 2 == 1 || !outside.contains(" on") && !outside.contains("style"), "<{tag}>");
        }
        if let Some(target) = tag.split("href=\"").nth(1) {
            assert!(target.starts_with('/') && !target.starts_with("//") || target.starts_with('#'), "<{tag}>");
        }
    }
}

#[tokio::test]
async fn t130_annotations_labels_and_platforms_are_shown_as_text() {
    let upstream = Upstream::start().await;
    let config = json!({
        "os": HOSTILE, "architecture": HOSTILE, "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Labels": { HOSTILE: HOSTILE, "\u{202e}txt": "a\u{0}b" } },
    });
    let app = Builder::new().layer(blob(100, 1)).config(config.to_string().into_bytes());
    let app = app.annotation(HOSTILE, HOSTILE).annotation("url", "javascript:alert(3)").build();
    upstream.publish("org/app", "1", &app);
    let referrer =
        Builder::new().layer(blob(10, 2)).artifact_type(HOSTILE).subject(&app).annotation(HOSTILE, HOSTILE).build();
    upstream.publish("org/app", "sig", &referrer);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    mirror.pull_whole("org/app", "sig").await;
    for path in ["/", "/repositories", "/repository?name=docker.io/org/app"] {
        is_harmless(&Browser::new(&mirror).get(path).await.text());
    }
    for tag in ["1", "sig"] {
        let shown = Browser::new(&mirror).get(&format!("/image?reference=docker.io/org/app:{tag}")).await.text();
        is_harmless(&shown);
        assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{shown}");
        assert!(!shown.contains('\u{202e}') && !shown.contains('\u{0}'), "they would turn or hide text");
    }
    let shown = Browser::new(&mirror).get("/image?reference=docker.io/org/app:1").await.text();
    assert!(shown.contains("\\u{202e}txt") && shown.contains(">javascript:alert(3)<"), "{shown}");
}

#[tokio::test]
async fn t130_what_clients_ask_for_and_what_upstream_says_is_shown_as_text() {
    let upstream = Upstream::start().await;
    let (mirror, _directory) =
        with_token(format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", upstream.url()), "127.0.0.1:0").await;
    upstream.script(manifests().repository("org/app").always().content_type(HOSTILE));
    upstream.publish("org/app", "1", &crate::support::image::image(&[blob(10, 1)]));
    let _answer = mirror.client().get("/v2/org/app/manifests/1").await;
    let encoded: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    let _answer = mirror.client().get(&format!("/v2/org/app/manifests/{encoded}")).await;
    let _answer = mirror.client().get(&format!("/{encoded}")).await;
    let browser = Browser::signed_in(&mirror).await;
    for path in
        ["/", "/repositories?q=", "/repositories?sort=", "/image?reference=", "/repository?name=", "/sign-in?next="]
    {
        is_harmless(&browser.get(&format!("{path}{encoded}")).await.text());
    }
    for path in ["/pin", "/unpin", "/refresh", "/verify", "/sign-in"] {
        let fields = ["pattern", "glob", "rate", "token", "next"].map(|field| (field, HOSTILE));
        let answer = browser.post(path, &fields).await;
        is_harmless(&answer.text());
        is_harmless(&browser.get("/pins").await.text());
    }
    is_harmless(&browser.get("/").await.text());
}
