//! Manifests pass as they are: bytes, types, digests, names.

use super::upstream;
use crate::support::image::{
    Builder, DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_MANIFEST, SCHEMA1, docker_list, image, index, schema1,
};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn one() -> (Upstream, Mirror) {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    (registry, mirror)
}

fn assert_is(answer: &crate::support::client::Answer, image: &Image) {
    assert_eq!((answer.status, &answer.body), (200, &image.manifest));
    assert_eq!(answer.header("content-type"), image.media_type);
    assert_eq!(answer.header("docker-content-digest"), image.digest);
}

#[tokio::test]
async fn every_type_passes_unchanged_byte_for_byte() {
    let (registry, mirror) = one().await;
    let (docker, oci) = (Builder::new().docker().layer(blob(10, 1)).build(), image(&[blob(10, 2)]));
    for (tag, image) in
        [("docker", &docker), ("list", &docker_list(&[&docker])), ("oci", &oci), ("index", &index(&[&oci, &docker]))]
    {
        registry.publish("org/app", tag, image);
        for _cold_and_warm in 0..2 {
            for reference in [tag, &image.digest] {
                assert_is(&mirror.client().get(&format!("/v2/org/app/manifests/{reference}")).await, image);
            }
        }
    }
    assert_eq!([DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX].len(), 4, "all of them");
}

#[tokio::test]
async fn sha512_works_for_manifests_and_what_they_list() {
    let (registry, mirror) = one().await;
    let app = Builder::new().sha512().layer(blob(100_000, 1)).build();
    registry.publish("org/app", "1", &app);
    let client = mirror.client();
    for _cold_and_warm in 0..2 {
        assert_is(&client.get(&format!("/v2/org/app/manifests/{}", app.digest)).await, &app);
        assert_is(&client.get("/v2/org/app/manifests/1").await, &app);
        for part in &app.blobs {
            let answer = client.get(&format!("/v2/org/app/blobs/{}", part.digest)).await;
            assert_eq!((answer.status, sha512(&answer.body)), (200, part.digest.clone()));
        }
    }
}

#[tokio::test]
async fn names_of_any_depth_are_served() {
    let (registry, mirror) = one().await;
    let deep = (0..40).map(|at| format!("part-{at}")).collect::<Vec<_>>().join("/");
    for name in [deep.as_str(), "a/manifests/b", "a/blobs/b", "a/tags/list/b", "v2/v2", "a__b/c--d/e.f"] {
        let app = image(&[blob(10, name.len() as u64)]);
        registry.publish(name, "1", &app);
        assert_is(&mirror.client().get(&format!("/v2/{name}/manifests/1")).await, &app);
        let listed = mirror.client().get(&format!("/v2/{name}/tags/list")).await;
        assert_eq!(listed.json(), serde_json::json!({"name": name, "tags": ["1"]}));
    }
}

#[tokio::test]
async fn t22_what_a_client_accepts_changes_neither_the_answer_nor_the_question() {
    let (registry, mirror) = one().await;
    let app = image(&[blob(10, 1)]);
    let list = index(&[&app]);
    registry.publish("org/app", "1", &list);
    let client = mirror.client();
    let several = [("accept", OCI_MANIFEST), ("accept", "application/json"), ("accept-encoding", "gzip, zstd")];
    for headers in
        [&[][..], &several, &[("accept", DOCKER_MANIFEST)], &[("accept", SCHEMA1)], &[("accept", "text/html")]]
    {
        mirror.advance(std::time::Duration::from_mins(2));
        let answer = client.send(http::Method::GET, "/v2/org/app/manifests/1", headers).await;
        assert_is(&answer, &list);
        assert!(!answer.headers.contains_key("content-encoding"));
    }
    let asked = registry.requests_of(&manifests());
    assert!(asked.len() > 2);
    for request in &asked {
        assert_eq!(request.header("accept"), asked[0].header("accept"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
    for media_type in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST] {
        assert!(asked[0].header("accept").unwrap().contains(media_type));
    }
    assert!(
        !asked[0].header("accept").unwrap().contains("docker.distribution.manifest.v1"),
        "schema 1 is not asked for"
    );
}

#[tokio::test]
async fn schema_1_is_answered_as_missing_and_not_kept() {
    let (registry, mirror) = one().await;
    let old = schema1("org/app", "1");
    registry.publish("org/app", "1", &old);
    let answer = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    assert!(crate::support::mirror::files_below(&mirror.storage().join("blobs")).is_empty());
}

#[tokio::test]
async fn t19_a_manifest_that_is_two_things_at_once_is_refused() {
    let (registry, mirror) = one().await;
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
    let liar = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{{}},"layers":[]}}"#);
    for (tag, media_type, body) in [("both", OCI_MANIFEST, both), ("liar", OCI_INDEX, &liar)] {
        let digest = registry.manifest("org/app", media_type, body.to_owned());
        registry.tag("org/app", tag, &digest);
        for reference in [tag, &digest] {
            let answer = mirror.client().get(&format!("/v2/org/app/manifests/{reference}")).await;
            assert_eq!(answer.status, 502, "{reference}");
            assert!(!answer.text().contains("layers"), "nothing of it is passed on");
        }
    }
}

#[tokio::test]
async fn t19_the_type_at_the_first_verified_fetch_stands() {
    let (registry, mirror) = one().await;
    // Without a `mediaType` in the body, the header decides, and only once.
    let silent = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let digest = registry.manifest("org/app", DOCKER_MANIFEST, silent);
    registry.manifest("org/other", OCI_MANIFEST, silent);
    registry.tag("org/app", "1", &digest);
    registry.tag("org/other", "1", &digest);
    let client = mirror.client();
    assert_eq!(client.get("/v2/org/app/manifests/1").await.header("content-type"), DOCKER_MANIFEST);
    registry.script(manifests().always().content_type(OCI_INDEX));
    mirror.advance(std::time::Duration::from_mins(2));
    for reference in ["1", &digest] {
        for repository in ["org/app", "org/other"] {
            let answer = client.get(&format!("/v2/{repository}/manifests/{reference}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, DOCKER_MANIFEST), "{repository}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_digest_is_not_passed_on() {
    let (registry, mirror) = one().await;
    let (app, other) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    registry.publish("org/app", "1", &app);
    registry.script(
        manifests()
            .get()
            .always()
            .body(Content::from(other.manifest.clone()))
            .header("docker-content-digest", &app.digest),
    );
    let answer = mirror.client().get(&format!("/v2/org/app/manifests/{}", app.digest)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("do not match the digest"), "{}", answer.text());
    assert_eq!(mirror.metric("roadstead_digest_mismatches_total{authority=\"docker.io\"}"), 1.0);
}

#[tokio::test]
async fn t36_bytes_are_served_and_never_a_redirect() {
    let (registry, mirror) = one().await;
    let cdn = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    registry.publish("org/app", "1", &app);
    cdn.publish("org/app", "1", &app);
    registry.script(every_request().when(|request| request.kind != Kind::Referrers).always().redirect_to(&cdn));
    let client = mirror.client();
    let parts = [format!("blobs/{}", app.layers()[0].digest), "manifests/1".to_owned(), "tags/list".to_owned()];
    for part in parts {
        for method in [http::Method::GET, http::Method::HEAD] {
            let answer = client.send(method.clone(), &format!("/v2/org/app/{part}"), &[]).await;
            assert_eq!(answer.status, 200, "{method} {part}: {}", answer.text());
            assert!(!answer.headers.contains_key("location"));
        }
    }
}

#[tokio::test]
async fn nulls_that_go_writes_pass_unchanged() {
    let (registry, mirror) = one().await;
    for (nth, (media_type, rest)) in [
        (OCI_INDEX, r#""manifests":null"#),
        (DOCKER_LIST, r#""manifests":null"#),
        (OCI_MANIFEST, r#""config":null,"layers":null"#),
        (OCI_MANIFEST, r#""layers":[],"annotations":{"x":null}"#),
        (OCI_MANIFEST, r#""layers":[{"mediaType":"a/b","digest":null,"size":1}]"#),
    ]
    .into_iter()
    .enumerate()
    {
        for typed in [true, false] {
            let told = if typed { format!(r#""mediaType":"{media_type}","#) } else { String::new() };
            // Of one body, the type at the first fetch stands.
            let body = format!(r#"{{"schemaVersion":2,"nth":{nth},{told}{rest}}}"#);
            let digest = registry.manifest("org/app", media_type, body.clone());
            let tag = format!("{nth}-{typed}");
            registry.tag("org/app", &tag, &digest);
            let answer = mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await;
            assert_eq!((answer.status, answer.text()), (200, body));
            assert_eq!(answer.header("content-type"), media_type);
        }
    }
}
