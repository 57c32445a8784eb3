//! Tag lists when upstream fails, is gone, or lies about its pages.

use std::time::Duration;

use super::upstream;
use crate::support::client::Answer;
use crate::support::image::index;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const LIST: &str = "/v2/org/app/tags/list";

async fn three(lines: &str) -> (Upstream, Mirror) {
    let registry = Upstream::start().await;
    for tag in ["a", "b", "c"] {
        registry.publish("org/app", tag, &index(&[]));
    }
    let lines = format!("breaker_window = \"0s\"\n{lines}");
    let mirror = Mirror::start(upstream("docker.io", &registry, &lines)).await;
    (registry, mirror)
}

fn listed(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

#[tokio::test]
async fn a_list_is_served_stale_and_never_empty_when_upstream_fails() {
    for step in [
        tag_lists().always().status(500),
        tag_lists().always().too_many_requests("5"),
        tag_lists().always().cut_before_headers(),
        tag_lists().always().html(),
    ] {
        let (registry, mirror) = three("").await;
        assert_eq!(listed(&mirror.client().get(LIST).await).len(), 3);
        mirror.advance(Duration::from_mins(2));
        registry.script(step);
        let mut asked = Vec::new();
        for _again in 0..2 {
            let answer = mirror.client().get(LIST).await;
            assert_eq!(listed(&answer), ["a", "b", "c"]);
            assert!(
                answer.header("warning").starts_with("299 - ") && answer.header("age").parse::<u64>().unwrap() >= 120
            );
            asked.push(registry.requests().len());
        }
        assert_eq!(asked[0], asked[1], "the second is held");
        let cold = mirror.client().get("/v2/org/other/tags/list").await;
        assert!(matches!(cold.status, 502 | 429), "nothing is held: {}", cold.status);
    }
}

#[tokio::test]
async fn a_page_that_was_never_asked_for_is_cut_from_the_last_complete_list() {
    let (registry, mirror) = three("").await;
    let client = mirror.client();
    client.get(LIST).await;
    // Held since: a tag that the list does not know.
    registry.publish("org/app", "d", &index(&[]));
    assert_eq!(client.get("/v2/org/app/manifests/d").await.status, 200);
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    let first = client.get("/v2/org/app/tags/list?n=3&ns=docker.io").await;
    assert_eq!(listed(&first), ["a", "b", "c"]);
    assert_eq!(first.header("link"), "</v2/org/app/tags/list?n=3&last=c&ns=docker.io>; rel=\"next\"");
    assert!(first.header("warning").starts_with("299 - "));
    let second = client.get("/v2/org/app/tags/list?n=3&last=c").await;
    assert_eq!((listed(&second), second.header("link")), (vec!["d".to_owned()], ""));
    assert_eq!(listed(&client.get("/v2/org/app/tags/list?last=b").await), ["c", "d"]);
    assert_eq!(listed(&client.get("/v2/org/app/tags/list?n=0").await), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_page_without_a_link_is_not_taken_for_the_whole_list() {
    let (registry, mirror) = three("").await;
    registry.script(tag_lists().always().without_header("link"));
    let client = mirror.client();
    assert_eq!(listed(&client.get("/v2/org/app/tags/list?n=2").await), ["a", "b"]);
    assert_eq!(listed(&client.get(LIST).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_page_served_from_the_cache_makes_no_list_younger() {
    let (registry, mirror) = three("").await;
    let client = mirror.client();
    let paged = "/v2/org/app/tags/list?n=50";
    client.get(paged).await;
    mirror.advance(Duration::from_secs(50));
    assert_eq!(client.get(paged).await.header("age"), "50");
    mirror.advance(Duration::from_secs(20));
    registry.stop().await;
    assert!(client.get(paged).await.header("warning").starts_with("299 - "));
    let whole = client.get(LIST).await;
    assert_eq!(listed(&whole), ["a", "b", "c"]);
    assert!(whole.header("warning").starts_with("299 - "), "{:?}", whole.headers);
    assert_eq!(whole.header("age"), "70", "it is as old as what it was cut from");
}

#[tokio::test]
async fn a_made_up_cursor_hides_nothing_from_others() {
    let (registry, mirror) = three("").await;
    registry.script(tag_lists().when(|request| request.query.contains("next_page=made-up")).always().status(404));
    let client = mirror.client();
    client.get(LIST).await;
    assert_eq!(client.get("/v2/org/app/tags/list?next_page=made-up").await.status, 404);
    assert_eq!(listed(&client.get(LIST).await), ["a", "b", "c"]);
    assert_eq!(listed(&client.get("/v2/org/app/tags/list?n=2").await), ["a", "b"]);
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(listed(&client.get(LIST).await), ["a", "b", "c"], "nor is what is held forgotten");
}

#[tokio::test]
async fn a_list_that_is_gone_is_404_and_not_served_stale_later() {
    let (registry, mirror) = three("").await;
    let client = mirror.client();
    client.get(LIST).await;
    client.get("/v2/org/app/tags/list?n=50").await;
    registry.delete_repository("org/app");
    mirror.advance(Duration::from_mins(2));
    let answer = client.get(LIST).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NAME_UNKNOWN"));
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    for path in [LIST, "/v2/org/app/tags/list?n=50", "/v2/org/app/tags/list?n=2"] {
        assert_eq!(client.get(path).await.status, 502, "{path}");
    }
}

#[tokio::test]
async fn t14_a_refused_list_is_not_served_stale_later() {
    let (registry, mirror) = three("on_denied = \"refuse\"\nnegative_ttl = \"0s\"").await;
    let client = mirror.client();
    client.get(LIST).await;
    registry.script(tag_lists().always().status(403));
    mirror.advance(Duration::from_mins(2));
    assert_eq!(client.get(LIST).await.status, 403);
    registry.stop().await;
    assert_eq!(client.get(LIST).await.status, 502);
}

#[tokio::test]
async fn lists_outlive_a_restart() {
    let (registry, mirror) = three("").await;
    mirror.client().get(LIST).await;
    // An empty list is kept of what is held.
    assert_eq!(mirror.client().get("/v2/org/app/manifests/a").await.status, 200);
    mirror.client().get(&format!("/v2/org/app/referrers/{}", index(&[]).digest)).await;
    let mirror = mirror.restart().await;
    registry.stop().await;
    let answer = mirror.client().get(LIST).await;
    assert_eq!((listed(&answer).len(), answer.header("cache-status")), (3, "roadstead; hit"));
    mirror.advance(Duration::from_mins(2));
    assert_eq!(listed(&mirror.client().get(LIST).await), ["a", "b", "c"]);
    let referrers = mirror.client().get(&format!("/v2/org/app/referrers/{}", index(&[]).digest)).await;
    assert_eq!((referrers.status, referrers.header("warning").is_empty()), (200, false));
}
