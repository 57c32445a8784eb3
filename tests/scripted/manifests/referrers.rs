//! Referrers: upstream's API, else the tag schema, else none; filtered here.

use std::time::Duration;

use super::upstream;
use crate::support::client::Answer;
use crate::support::image::{Image, OCI_INDEX, artifact, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIGNATURE: &str = "application/vnd.test.signature";
const SBOM: &str = "application/vnd.test.sbom";

/// An image with two signatures and an SBOM.
async fn signed() -> (Upstream, Mirror, Image, Vec<String>) {
    let registry = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    registry.publish("org/app", "1", &app);
    let mut digests = Vec::new();
    for (kind, seed) in [(SIGNATURE, 1), (SBOM, 2), (SIGNATURE, 3)] {
        digests.push(registry.put_referrer("org/app", &artifact(&app, kind, blob(10, seed))));
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, "breaker_window = \"0s\"")).await;
    (registry, mirror, app, digests)
}

fn path(subject: &Image) -> String {
    format!("/v2/org/app/referrers/{}", subject.digest)
}

fn listed(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.header("content-type")), (200, OCI_INDEX), "{}", answer.text());
    let index = answer.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&2.into(), &OCI_INDEX.into()));
    let descriptors = index["manifests"].as_array().unwrap().iter();
    descriptors.map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn upstreams_api_is_asked_and_all_its_pages_are_one_list() {
    let (registry, mirror, app, digests) = signed().await;
    for size in [1000, 1, 2] {
        registry.page_size(size);
        let answer = mirror.client().get(&path(&app)).await;
        assert_eq!(listed(&answer), digests, "pages of {size}");
        assert!(!answer.headers.contains_key("oci-filters-applied") && !answer.headers.contains_key("link"));
        assert_eq!(answer.json()["manifests"][1]["artifactType"], SBOM);
        mirror.advance(Duration::from_mins(2));
    }
}

#[tokio::test]
async fn the_filter_is_applied_here_whatever_upstream_does() {
    let (registry, mirror, app, digests) = signed().await;
    registry.without_referrers_filter();
    let client = mirror.client();
    let encoded = SIGNATURE.replace('/', "%2F");
    for (query, expected) in [
        (format!("artifactType={SIGNATURE}"), vec![0, 2]),
        (format!("artifactType={encoded}&ns=docker.io"), vec![0, 2]),
        (format!("artifactType={SBOM}"), vec![1]),
        (format!("artifactType={SBOM}&artifactType={SIGNATURE}"), vec![0, 1, 2]),
        ("artifactType=application/none".to_owned(), vec![]),
    ] {
        let answer = client.get(&format!("{}?{query}", path(&app))).await;
        let expected: Vec<_> = expected.into_iter().map(|at: usize| digests[at].clone()).collect();
        assert_eq!(listed(&answer), expected, "{query}");
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
    }
    assert_eq!(registry.requests().len(), 1, "one list serves every filter");
}

#[tokio::test]
async fn without_the_api_the_tag_schema_is_asked() {
    let (registry, mirror, app, digests) = signed().await;
    registry.without_referrers_api();
    registry.tag_referrers("org/app", &app.digest);
    let answer = mirror.client().get(&path(&app)).await;
    assert_eq!(listed(&answer), digests);
    let filtered = mirror.client().get(&format!("{}?artifactType={SBOM}", path(&app))).await;
    assert_eq!(listed(&filtered), digests[1..2]);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let tag = app.digest.replace(':', "-");
    assert_eq!(registry.gets_of(&tag), 1);
}

#[tokio::test]
async fn every_odd_way_of_not_having_the_api_leads_to_the_tag_schema() {
    let web = Upstream::start().await;
    web.file("/pages", "<html>");
    for step in [
        referrers().always().status(404),
        referrers().always().status(400),
        referrers().always().status(405),
        referrers().always().status(501),
        referrers().always().html(),
        referrers().always().status(200).body(Content::from("{}")).header("content-type", "application/json"),
        referrers().always().status(303).header("location", &format!("{}/pages", web.url())),
        referrers().always().redirect(&format!("{}/pages", web.url())),
    ] {
        let (registry, mirror, app, digests) = signed().await;
        registry.tag_referrers("org/app", &app.digest);
        registry.script(step);
        assert_eq!(listed(&mirror.client().get(&path(&app)).await), digests);
    }
    assert!(web.requests().is_empty(), "a redirect of referrers leads to pages for people and is not followed");
}

#[tokio::test]
async fn none_is_an_empty_list_and_never_404() {
    let (registry, mirror, app, _digests) = signed().await;
    let lonely = image(&[blob(10, 9)]);
    assert_eq!(listed(&mirror.client().get(&path(&lonely)).await), Vec::<String>::new());
    registry.without_referrers_api();
    mirror.advance(Duration::from_mins(2));
    assert_eq!(listed(&mirror.client().get(&path(&lonely)).await), Vec::<String>::new());
    let elsewhere = format!("/v2/org/none/referrers/{}", app.digest);
    assert_eq!(listed(&mirror.client().get(&elsewhere).await), Vec::<String>::new());
    // registry.gitlab.com resolves the fallback tag to the subject itself.
    registry.tag("org/app", &lonely.digest.replace(':', "-"), &app.digest);
    mirror.advance(Duration::from_mins(2));
    assert_eq!(listed(&mirror.client().get(&path(&lonely)).await), Vec::<String>::new());
}

/// Clients choose repositories and subjects: what there is not takes no place in the index.
#[tokio::test]
async fn an_empty_list_is_recorded_only_for_what_is_held() {
    let (registry, mirror, _app, _digests) = signed().await;
    let lonely = image(&[blob(10, 9)]);
    registry.publish("org/app", "lonely", &lonely);
    let made_up = format!("/v2/org/none/referrers/{}", lonely.digest);
    for _ in 0..2 {
        assert_eq!(listed(&mirror.client().get(&made_up).await), Vec::<String>::new());
        assert_eq!(listed(&mirror.client().get(&path(&lonely)).await), Vec::<String>::new());
    }
    assert_eq!(mirror.inner().cache().counts().await.unwrap().lists, 0);
    let asked = registry.requests().iter().filter(|request| request.path.contains("/referrers/")).count();
    assert_eq!(asked, 2, "once each: the answers are believed for as long as others");
    mirror.pull_whole("org/app", "lonely").await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(listed(&mirror.client().get(&path(&lonely)).await), Vec::<String>::new());
    assert_eq!(mirror.inner().cache().counts().await.unwrap().lists, 1);
    registry.stop().await;
    mirror.advance(Duration::from_mins(2));
    assert_eq!(
        listed(&mirror.client().get(&path(&lonely)).await),
        Vec::<String>::new(),
        "what is held is served stale"
    );
}

#[tokio::test]
async fn upstream_failing_is_never_an_empty_list() {
    for step in [
        referrers().always().status(500),
        referrers().always().cut_before_headers(),
        referrers().always().too_many_requests("5"),
        referrers().always().status(403),
    ] {
        let (registry, mirror, app, digests) = signed().await;
        let failing = registry.script(step);
        let cold = mirror.client().get(&path(&app)).await;
        assert!(matches!(cold.status, 502 | 429 | 403), "{}", cold.status);
        failing.revoke();
        mirror.advance(Duration::from_secs(30));
        assert_eq!(listed(&mirror.client().get(&path(&app)).await), digests);
    }
    // The fallback's failure is a failure too.
    let (registry, mirror, app, _digests) = signed().await;
    registry.without_referrers_api();
    registry.script(manifests().always().status(500));
    assert_eq!(mirror.client().get(&path(&app)).await.status, 502);
    let (registry, mirror, app, _digests) = signed().await;
    registry.page_size(1);
    registry.script(referrers().since_nth(2).always().status(404));
    assert_eq!(mirror.client().get(&path(&app)).await.status, 502, "half a list is none");
}

#[tokio::test]
async fn a_list_is_fresh_for_tag_ttl_and_served_stale_behind_it() {
    let (registry, mirror, app, digests) = signed().await;
    let client = mirror.client();
    client.get(&path(&app)).await;
    let newer = registry.put_referrer("org/app", &artifact(&app, SBOM, blob(10, 7)));
    assert_eq!(listed(&client.get(&path(&app)).await), digests, "inside tag_ttl");
    mirror.advance(Duration::from_mins(1));
    let all: Vec<_> = digests.iter().cloned().chain([newer]).collect();
    assert_eq!(listed(&client.get(&path(&app)).await), all);
    registry.stop().await;
    let mirror = mirror.restart().await;
    mirror.advance(Duration::from_mins(2));
    let stale = mirror.client().get(&path(&app)).await;
    assert_eq!(listed(&stale), all);
    assert!(stale.header("warning").starts_with("299 - "));
}

#[tokio::test]
async fn t53_a_list_under_a_wrong_content_type_is_a_list() {
    for media_type in ["application/json", "text/plain", "application/octet-stream"] {
        let (registry, mirror, app, digests) = signed().await;
        let typed = registry.script(referrers().always().header("content-type", media_type));
        assert_eq!(listed(&mirror.client().get(&path(&app)).await), digests, "{media_type}");
        typed.revoke();
    }
}

#[tokio::test]
async fn t53_a_list_that_breaks_off_is_a_failure_and_not_none() {
    for media_type in ["application/json", OCI_INDEX] {
        let (registry, mirror, app, _digests) = signed().await;
        let half = Content::from("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\"");
        registry.script(referrers().always().status(200).body(half).header("content-type", media_type));
        let answer = mirror.client().get(&path(&app)).await;
        assert_eq!(answer.status, 502, "{media_type}: {}", answer.text());
    }
}

#[tokio::test]
async fn t53_a_fallback_tag_that_is_no_manifest_is_a_failure_and_not_none() {
    let (registry, mirror, app, _digests) = signed().await;
    registry.without_referrers_api();
    registry.script(manifests().always().status(200).body("not JSON"));
    assert_eq!(mirror.client().get(&path(&app)).await.status, 502);
}

#[tokio::test]
async fn descriptors_go_on_with_fields_that_are_not_known_here() {
    let (registry, mirror, app, digests) = signed().await;
    let descriptor = format!(
        r#"{{"mediaType":"a/b","digest":"{}","size":7,"x":{{"b":1,"a":[1.50]}},"artifactType":"{SBOM}"}}"#,
        digests[0]
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}],"annotations":null}}"#);
    registry.script(referrers().always().status(200).body(index).header("content-type", OCI_INDEX));
    for query in [String::new(), format!("?artifactType={SBOM}")] {
        let answer = mirror.client().get(&format!("{}{query}", path(&app))).await;
        assert!(answer.text().contains(&descriptor), "{}", answer.text());
    }
}
