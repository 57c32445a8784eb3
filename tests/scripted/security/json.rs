//! T50, T51, T52: what strangers' JSON and their lists may cost (docs/SECURITY-THREATS.md).

use std::time::Duration;

use super::hub;
use crate::blobs::process::Process;
use crate::support::client::Client;
use crate::support::image::{OCI_INDEX, OCI_MANIFEST, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;

/// A body just below the cap in which tiny objects stand where this key is.
fn tiny_objects(before: &str, key: &str) -> Content {
    let objects = vec![r#"{"":0}"#; (4 * 1024 * 1024 - 100) / 7].join(",");
    Content::from(format!("{{{before}\"{key}\":[{objects}]}}"))
}

/// All of these at one time.
async fn get_all(client: &Client, paths: Vec<String>) -> Vec<u16> {
    let gets = paths.into_iter().map(|path| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&path).await.status })
    });
    let mut statuses = Vec::new();
    for get in gets.collect::<Vec<_>>() {
        statuses.push(get.await.unwrap());
    }
    statuses
}

#[tokio::test]
async fn t50_sixteen_answers_of_dense_json_at_once_cost_little_more_than_their_bodies() {
    let subjects: Vec<String> = (0..16).map(|nth| format!("sha256:{nth:064x}")).collect();
    let referrers_of = |subjects: &[String]| -> Vec<String> {
        subjects.iter().map(|subject| format!("/v2/library/app/referrers/{subject}")).collect()
    };
    let manifests = || (0..16).map(|nth| format!("/v2/library/app/manifests/t{nth}")).collect::<Vec<_>>();
    let lists = || (0..16).map(|nth| format!("/v2/library/app{nth}/tags/list")).collect::<Vec<_>>();
    let short_names = Content::from(format!("{{\"tags\":[{}]}}", vec![r#""""#; 1_398_000].join(",")));
    let typed = |step: Step, media_type: &str| step.header("content-type", media_type);
    for (what, most, steps, paths) in [
        (
            "referrers of the API",
            128,
            vec![typed(referrers().always().body(tiny_objects("", "manifests")), OCI_INDEX)],
            referrers_of(&subjects),
        ),
        (
            "referrers of the tag schema",
            128,
            vec![
                referrers().always().status(404),
                typed(manifests_step().body(tiny_objects("", "manifests")), OCI_INDEX),
            ],
            referrers_of(&subjects),
        ),
        (
            "schemaVersion of a manifest",
            128,
            vec![typed(manifests_step().body(tiny_objects("\"layers\":[],", "schemaVersion")), OCI_MANIFEST)],
            manifests(),
        ),
        // All of them are real, and are kept.
        ("a list of tags", 160, vec![tag_lists().always().body(short_names)], lists()),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        for step in steps {
            upstream.script(step);
        }
        // Reading so much takes a busy machine longer than clients wait.
        let patient = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nresponse_timeout = \"10m\"\n", upstream.url());
        let process = Process::start_on(directory.path(), &directory.path().join("data"), &patient).await;
        assert_eq!(process.client().get("/v2/").await.status, 200);
        let (_, before) = process.peak_and_resident_bytes();
        let statuses = get_all(&process.client(), paths).await;
        assert!(statuses.iter().all(|status| *status == 200), "{what}: {statuses:?}");
        let (peak, _) = process.peak_and_resident_bytes();
        let grown = peak.saturating_sub(before) / MIB;
        assert!(grown < most, "{what}: {grown} MiB");
    }
}

fn manifests_step() -> Step {
    manifests().get().always().status(200)
}

#[tokio::test]
async fn t50_a_token_with_dense_json_in_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    upstream.publish("library/app", "v1", &image(&[blob(10, 1)]));
    upstream.token_auth(&TokenAuth::new());
    let objects = vec![r#"{"":0}"#; 120_000].join(",");
    let token = Content::from(format!("{{\"token\":\"none\",\"expires_in\":[{objects}]}}"));
    upstream.script(tokens().always().status(200).body(token));
    let process = Process::start(directory.path(), &upstream).await;
    let (_, before) = process.peak_and_resident_bytes();
    let statuses = get_all(&process.client(), vec![super::APP.to_owned(); 16]).await;
    assert!(statuses.iter().all(|status| *status == 403), "the token is read, and is none that is taken: {statuses:?}");
    let (peak, _) = process.peak_and_resident_bytes();
    let grown = peak.saturating_sub(before) / MIB;
    assert!(grown < 64, "{grown} MiB");
}

#[tokio::test]
async fn a_long_list_of_tags_is_answered_whole_and_in_pages() {
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..200_000).map(|nth| format!("v{nth:06}")).collect();
    let body = serde_json::json!({ "name": "library/app", "tags": names }).to_string();
    // As distribution before 3 does: the whole list, whatever is asked for.
    upstream.script(tag_lists().always().body(body.clone()).header("content-type", "application/json"));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let client = mirror.client();
    for _cold_and_warm in 0..2 {
        let whole = client.get("/v2/library/app/tags/list").await;
        assert_eq!((whole.text() == body, whole.header("link")), (true, ""));
        let head = client.head("/v2/library/app/tags/list").await;
        assert_eq!(head.header("content-length"), body.len().to_string());
        let page = client.get("/v2/library/app/tags/list?n=1000&last=v099999").await;
        assert_eq!(page.json()["tags"], serde_json::json!(names[100_000..101_000]));
        assert_eq!(page.header("link"), "</v2/library/app/tags/list?n=1000&last=v100999>; rel=\"next\"");
    }
    assert_eq!(upstream.requests().len(), 2, "one question for each");
}

#[tokio::test]
async fn t51_parameters_that_neither_the_spec_nor_upstream_knows_make_no_list() {
    let upstream = Upstream::start().await;
    upstream.publish("library/app", "v1", &image(&[blob(10, 1)]));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    for nth in 0..20 {
        let answer = mirror.client().get(&format!("/v2/library/app/tags/list?x={nth}&y{nth}=1")).await;
        assert_eq!((answer.status, answer.json()["tags"][0].as_str()), (200, Some("v1")));
    }
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(mirror.inner().cache().counts().await.unwrap().lists, 1);
}

#[tokio::test]
async fn t51_a_cursor_that_upstreams_own_link_named_goes_through_after_a_restart_too() {
    let upstream = Upstream::start().await;
    let (first, second) = ("{\"tags\":[\"a\"]}", "{\"tags\":[\"b\"]}");
    let link = "</v2/library/app/tags/list?marker=m1>; rel=\"next\"";
    upstream.script(tag_lists().when(|request| request.query.is_empty()).always().body(first).header("link", link));
    upstream.script(tag_lists().when(|request| request.query == "marker=m1").always().body(second));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    let answer = mirror.client().get("/v2/library/app/tags/list").await;
    assert_eq!(answer.header("link"), link);
    let mirror = mirror.restart().await;
    let next = mirror.client().get("/v2/library/app/tags/list?marker=m1").await;
    assert_eq!((next.status, next.json()["tags"][0].as_str()), (200, Some("b")));
}

#[tokio::test]
async fn t51_one_content_under_many_queries_is_stored_once() {
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..100_000).map(|nth| format!("v{nth:06}")).collect();
    let body = serde_json::json!({ "tags": names }).to_string();
    upstream.script(tag_lists().always().body(body).header("link", "</x?next_page=1>; rel=\"next\""));
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    for nth in 0..100 {
        let path = format!("/v2/library/app/tags/list?next_page={nth}");
        assert_eq!(mirror.client().get(&path).await.status, 200);
    }
    assert_eq!(mirror.inner().cache().counts().await.unwrap().lists, 33, "32 MiB of them");
    let storage = mirror.storage();
    let _stopped = mirror.stop().await;
    let index = std::fs::metadata(storage.join("index.redb")).unwrap().len();
    assert!(index < 16 * MIB, "{} MiB", index / MIB);
}

#[tokio::test]
async fn t51_a_large_index_counts_towards_max_size() {
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..380_000).map(|nth| format!("v{nth:06}")).collect();
    let names = names.join("\",\"");
    let lists: Vec<_> = (0..18).map(|nth| (format!("r{}.test", nth % 6), format!("next_page={nth}"))).collect();
    for (_, query) in lists.clone() {
        let body = format!("{{\"tags\":[\"{names}\",\"{query}\"]}}");
        let link = "</x?next_page=99>; rel=\"next\"";
        let is_this = move |request: &Recorded| request.query == query;
        upstream.script(tag_lists().when(is_this).always().body(body).header("link", link));
    }
    let url = upstream.url();
    let toml: Vec<_> = (0..6).map(|nth| format!("[upstreams.\"r{nth}.test\"]\nurl = \"{url}\"\n")).collect();
    let mirror = Mirror::builder(toml.concat()).storage("max_size = \"80MiB\"").start().await;
    assert_eq!(mirror.inner().cache().used_bytes(), 0);
    for (authority, query) in lists {
        assert_eq!(mirror.client().get(&format!("/v2/app/tags/list?{query}&ns={authority}")).await.status, 200);
    }
    let mirror = mirror.restart().await;
    assert_eq!(mirror.inner().cache().counts().await.unwrap().lists, 18);
    assert_eq!(mirror.inner().cache().used_bytes(), 40 * MIB, "half of the limit is left to blobs");
}

#[tokio::test]
async fn t52_a_manifest_that_lists_too_much_is_refused_and_costs_no_rows() {
    let upstream = Upstream::start().await;
    let listing = |count: u64| {
        let layers: Vec<_> = (0..count)
            .map(|nth| serde_json::json!({"mediaType": "a/b", "digest": format!("sha256:{nth:064x}"), "size": 1}))
            .collect();
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers}).to_string()
    };
    upstream.publish("library/app", "other", &index(&[]));
    for (tag, count) in [("most", 2000), ("more", 2001)] {
        let digest = upstream.manifest("library/app", OCI_MANIFEST, listing(count));
        upstream.tag("library/app", tag, &digest);
    }
    let mirror = Mirror::start(hub(upstream.url(), "")).await;
    assert_eq!(mirror.client().get("/v2/library/app/manifests/most").await.status, 200);
    let refused = mirror.client().get("/v2/library/app/manifests/more").await;
    assert_eq!(refused.status, 502);
    assert!(refused.text().contains("more than 2000 descriptors"), "{}", refused.text());
    mirror.advance(Duration::from_mins(1));
    assert_eq!(mirror.client().get("/v2/library/app/manifests/other").await.status, 200);
}
