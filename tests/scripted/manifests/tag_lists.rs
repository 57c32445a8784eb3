//! `tags/list`, page by page through the mirror.

use std::time::Duration;

use super::upstream;
use crate::support::client::{Answer, Client};
use crate::support::image::index;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn with_tags(lines: &str, count: usize) -> (Upstream, Mirror, Vec<String>) {
    let registry = Upstream::start().await;
    let tags: Vec<String> = (0..count).map(|at| format!("t{at:03}")).collect();
    for tag in &tags {
        registry.publish("org/app", tag, &index(&[]));
    }
    let mirror = Mirror::start(upstream("quay.io", &registry, lines)).await;
    (registry, mirror, tags)
}

fn tags_of(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()["tags"].clone()).unwrap()
}

fn next_of(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(target.to_owned())
}

/// Follows `Link` from `path` to the end, as a client does: each target as it is.
async fn walk(client: &Client, path: &str) -> (Vec<String>, Vec<String>) {
    let (mut found, mut paths) = (Vec::new(), vec![path.to_owned()]);
    loop {
        let answer = client.get(paths.last().unwrap()).await;
        found.extend(tags_of(&answer));
        match next_of(&answer) {
            Some(next) => paths.push(next),
            None => return (found, paths),
        }
        assert!(paths.len() < 100, "it never ends: {paths:?}");
    }
}

#[tokio::test]
async fn links_lead_to_the_mirror_and_keep_prefix_and_ns() {
    let (registry, mirror, tags) = with_tags("prefix = \"q\"", 10).await;
    registry.page_size(3);
    for opaque in [false, true] {
        if opaque {
            registry.opaque_cursor();
        }
        for (path, kept, query) in [
            ("/v2/quay.io/org/app/tags/list?n=3", "/v2/quay.io/org/app/tags/list?", ""),
            ("/v2/q/org/app/tags/list", "/v2/q/org/app/tags/list?", ""),
            ("/v2/org/app/tags/list?ns=quay.io&n=3", "/v2/org/app/tags/list?", "ns=quay.io"),
            ("/v2/org/app/tags/list?oci-ref-name=quay.io/org/app:t1", "/v2/org/app/tags/list?", "oci-ref-name="),
        ] {
            mirror.advance(Duration::from_mins(2));
            let (found, paths) = walk(&mirror.client(), path).await;
            assert_eq!((found, paths.len()), (tags.clone(), 4), "{path}, opaque: {opaque}");
            for next in paths.iter().skip(1) {
                assert!(next.starts_with(kept) && next.contains(query), "{next}");
                assert_eq!(next.matches("ns=").count() + next.matches("oci-ref-name=").count(), query.len().min(1));
                assert_eq!(next.contains("next_page="), opaque, "the cursor is upstream's own: {next}");
            }
        }
    }
    assert!(registry.requests().iter().all(|r| !r.query.contains("ns=") && !r.query.contains("oci-ref")));
}

#[tokio::test]
async fn t4_t8_of_upstreams_link_only_the_query_is_read() {
    let (registry, mirror, _tags) = with_tags("", 1).await;
    let canary = Canary::listen();
    let link = format!("<{}/v2/evil/tags/list?next_page=abc&ns=evil.test>; rel=\"next\"", canary.url());
    registry.script(tag_lists().always().header("link", &link));
    let answer = mirror.client().get("/v2/quay.io/org/app/tags/list").await;
    assert_eq!(next_of(&answer).unwrap(), "/v2/quay.io/org/app/tags/list?next_page=abc");
    mirror.client().get(&next_of(&answer).unwrap()).await;
    canary.assert_untouched();
    let asked = registry.requests();
    assert_eq!((asked[1].path.as_str(), asked[1].query.as_str()), ("/v2/org/app/tags/list", "next_page=abc"));
}

#[tokio::test]
async fn n_is_clamped_to_what_upstream_accepts() {
    let (registry, mirror, tags) = with_tags("max_page = 5", 12).await;
    registry.highest_n(5);
    for n in ["10000", "6", "99999999999999999999"] {
        let (found, paths) = walk(&mirror.client(), &format!("/v2/quay.io/org/app/tags/list?n={n}")).await;
        assert_eq!((found, paths.len()), (tags.clone(), 3), "{n}");
    }
    assert!(registry.requests().iter().all(|request| request.query.contains("n=5")));
}

#[tokio::test]
async fn quays_page_limit_is_known() {
    let (registry, mirror, _tags) = with_tags("", 1).await;
    mirror.client().get("/v2/quay.io/org/app/tags/list?n=1000").await;
    assert_eq!(registry.requests()[0].query, "n=100");
}

#[tokio::test]
async fn n_of_zero_is_an_empty_list_without_a_link() {
    let (registry, mirror, _tags) = with_tags("", 3).await;
    for _cold_and_warm in 0..2 {
        let answer = mirror.client().get("/v2/quay.io/org/app/tags/list?n=0").await;
        assert_eq!((tags_of(&answer), next_of(&answer)), (Vec::new(), None));
    }
    let missing = mirror.client().get("/v2/quay.io/org/none/tags/list?n=0").await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "NAME_UNKNOWN"));
    let whole = mirror.client().get("/v2/quay.io/org/app/tags/list").await;
    assert_eq!(tags_of(&whole).len(), 3, "what n=0 asked for is not taken for the whole list");
    assert!(registry.requests().len() >= 3);
}

#[tokio::test]
async fn last_is_exclusive_and_works_without_n() {
    let (_registry, mirror, tags) = with_tags("", 10).await;
    let client = mirror.client();
    let answer = client.get("/v2/quay.io/org/app/tags/list?last=t004").await;
    assert_eq!(tags_of(&answer), tags[5..]);
    let answer = client.get("/v2/quay.io/org/app/tags/list?last=t004&n=2").await;
    assert_eq!(tags_of(&answer), tags[5..7]);
    assert!(next_of(&answer).is_some());
    let answer = client.get("/v2/quay.io/org/app/tags/list?last=zzz").await;
    assert_eq!(tags_of(&answer), Vec::<String>::new());
}

#[tokio::test]
async fn an_n_that_is_no_number_is_400() {
    let (registry, mirror, _tags) = with_tags("", 1).await;
    for n in ["-1", "x", "", "1.5", "%2b1"] {
        let answer = mirror.client().get(&format!("/v2/quay.io/org/app/tags/list?n={n}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "UNSUPPORTED"), "{n}");
    }
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_page_is_fresh_for_tag_ttl_and_fetched_once_for_all() {
    let (registry, mirror, tags) = with_tags("tag_ttl = \"1m\"", 3).await;
    let path = "/v2/quay.io/org/app/tags/list";
    let gate = Gate::closed();
    registry.script(tag_lists().once().stall_before_headers(&gate));
    let client = mirror.client();
    let pulls: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get(path).await })
        })
        .collect();
    gate.arrived().await;
    mirror.wait_for_requests_in_flight(10).await;
    gate.open();
    for pull in pulls {
        assert_eq!(tags_of(&pull.await.unwrap()), tags);
    }
    assert_eq!(registry.requests().len(), 1);
    mirror.advance(Duration::from_secs(59));
    let warm = client.get(path).await;
    assert_eq!((warm.header("age"), warm.header("cache-status")), ("59", "roadstead; hit"));
    registry.publish("org/app", "new", &index(&[]));
    mirror.advance(Duration::from_secs(1));
    assert!(tags_of(&client.get(path).await).contains(&"new".to_owned()));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_lose_the_list_for_others() {
    let (registry, mirror, tags) = with_tags("", 3).await;
    let path = "/v2/quay.io/org/app/tags/list";
    let gate = Gate::closed();
    registry.script(tag_lists().once().stall_before_headers(&gate));
    let client = mirror.client();
    let leaver = tokio::spawn({
        let client = client.clone();
        async move { client.get(path).await }
    });
    gate.arrived().await;
    let follower = tokio::spawn({
        let client = client.clone();
        async move { client.get(path).await }
    });
    mirror.wait_for_requests_in_flight(2).await;
    leaver.abort();
    gate.open();
    assert_eq!(tags_of(&follower.await.unwrap()), tags);
    assert_eq!(client.get(path).await.header("cache-status"), "roadstead; hit");
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_link_with_spaces_or_beyond_ascii_leads_to_the_next_page() {
    for (link, encoded) in [("page=1&hint=a b", "page=1&hint=a%20b"), ("page=1&hint=\u{e4}", "page=1&hint=%C3%A4")] {
        let (registry, mirror, tags) = with_tags("", 2).await;
        let link = format!("</v2/org/app/tags/list?{link}>; rel=\"next\"");
        registry.script(tag_lists().when(|request| request.query.is_empty()).always().header("link", &link));
        let first = mirror.client().get("/v2/quay.io/org/app/tags/list").await;
        assert_eq!(mirror.client().get(&next_of(&first).unwrap()).await.status, 200);
        let decode = |query: &str| url::form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
        assert_eq!(decode(&registry.requests()[1].query), decode(encoded));
        assert_eq!(tags_of(&first), tags);
    }
}

#[tokio::test]
async fn t53_a_link_that_cannot_be_read_is_no_end_of_the_list() {
    let (registry, mirror, _tags) = with_tags("", 2).await;
    registry.script(tag_lists().always().header("link", "</v2/org/app/tags/list?page=1; rel=\"next\""));
    let answer = mirror.client().get("/v2/quay.io/org/app/tags/list").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("link to the next page"), "{}", answer.text());
}
