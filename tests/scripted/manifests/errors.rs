//! Each failure and what the client sees of it.

use http::Method;

use super::upstream;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const NONE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn what_is_malformed_is_400_with_the_code_of_its_part() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    let upper = format!("sha256:{}", "A".repeat(64));
    let short = format!("sha512:{}", "a".repeat(64));
    for (path, code) in [
        ("Org/app/manifests/1".to_owned(), "NAME_INVALID"),
        ("org/-app/manifests/1".to_owned(), "NAME_INVALID"),
        (format!("{}/manifests/1", "a".repeat(2000)), "NAME_INVALID"),
        ("org/app/manifests/.1".to_owned(), "MANIFEST_INVALID"),
        (format!("org/app/manifests/{}", "a".repeat(129)), "MANIFEST_INVALID"),
        ("org/app/manifests/a%20b".to_owned(), "MANIFEST_INVALID"),
        ("org/app/manifests/".to_owned(), "MANIFEST_INVALID"),
        ("org/app/manifests/sha256:baddigeststring".to_owned(), "DIGEST_INVALID"),
        (format!("org/app/manifests/{upper}"), "DIGEST_INVALID"),
        (format!("org/app/blobs/{short}"), "DIGEST_INVALID"),
        (format!("org/app/blobs/md5:{}", "a".repeat(32)), "DIGEST_INVALID"),
        ("org/app/blobs/latest".to_owned(), "DIGEST_INVALID"),
        ("org/app/blobs/sha256:..%5c..%5cetc".to_owned(), "DIGEST_INVALID"),
        ("org/app/referrers/latest".to_owned(), "DIGEST_INVALID"),
    ] {
        let answer = mirror.client().get(&format!("/v2/{path}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "t7 {path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn what_is_missing_is_404_with_the_code_of_its_kind() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    for (path, code) in [
        ("org/app/manifests/none".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("org/app/manifests/{NONE}"), "MANIFEST_UNKNOWN"),
        (format!("org/app/blobs/{NONE}"), "BLOB_UNKNOWN"),
        ("org/none/manifests/1".to_owned(), "MANIFEST_UNKNOWN"),
        ("org/none/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        let answer = mirror.client().get(&format!("/v2/{path}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        let repository = path.split("/manifests").next().unwrap().split("/blobs").next().unwrap();
        assert!(message.contains(&format!("docker.io/{}", repository.trim_end_matches("/tags/list"))), "{message}");
        let head = mirror.client().head(&format!("/v2/{path}")).await;
        assert_eq!((head.status, head.body.len()), (404, 0));
    }
    let empty = mirror.client().get(&format!("/v2/org/app/referrers/{NONE}")).await;
    assert_eq!(empty.status, 200, "never a 404");
}

#[tokio::test]
async fn an_upstream_that_refuses_is_403_and_the_message_says_whom_it_refused() {
    let registry = Upstream::start().await;
    registry.publish("org/secret", "1", &image(&[blob(10, 1)]));
    registry.token_auth(&TokenAuth::new().user("robot", "right").private("org/secret"));
    let anonymous = Mirror::start(upstream("docker.io", &registry, "")).await;
    let answer = anonymous.client().get("/v2/org/secret/manifests/1").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"));
    assert!(answer.text().contains("private or missing") && answer.text().contains("credentials"), "{}", answer.text());
    assert!(!answer.headers.contains_key("www-authenticate"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "wrong").unwrap();
    let lines = format!("username = \"robot\"\npassword_file = \"{}\"", file.display());
    let mistaken = Mirror::start(upstream("docker.io", &registry, &lines)).await;
    let answer = mistaken.client().get("/v2/org/secret/manifests/1").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"));
    assert!(answer.text().contains("configured credentials"), "{}", answer.text());
}

#[tokio::test]
async fn a_ration_without_a_copy_is_429_with_retry_after() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    registry.script(every_request().always().too_many_requests("77"));
    for part in
        ["manifests/1".to_owned(), format!("manifests/{NONE}"), "tags/list".to_owned(), format!("referrers/{NONE}")]
    {
        let answer = mirror.client().get(&format!("/v2/org/app/{part}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "TOOMANYREQUESTS"), "{part}");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((70..=77).contains(&wait), "{wait}");
    }
    assert_eq!(registry.requests().len(), 1, "t28 the breaker answers the others");
}

#[tokio::test]
async fn a_ration_sends_clients_elsewhere_where_the_site_says_so() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "when_rationed = \"503\"")).await;
    registry.script(every_request().always().too_many_requests("77"));
    for _asked_and_shut in 0..2 {
        let answer = mirror.client().get("/v2/org/app/manifests/1").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, ""), "for which a client would wait");
        assert!(answer.text().contains("has rationed this mirror"), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_502_or_504_with_a_request_id() {
    let registry = Upstream::start().await;
    let quick = "response_timeout = \"1s\"\nbreaker_window = \"0s\"";
    let mirror = Mirror::start(upstream("docker.io", &registry, quick)).await;
    let client = mirror.client();
    for (step, status) in [
        (every_request().always().status(500), 502),
        (every_request().always().status(503), 502),
        (every_request().always().cut_before_headers(), 502),
        (every_request().always().says("nonsense\r\n\r\n"), 502),
        (every_request().always().status(451), 502),
        (every_request().always().hang_before_headers(), 504),
    ] {
        let handle = registry.script(step);
        for part in
            ["manifests/1".to_owned(), format!("manifests/{NONE}"), format!("blobs/{NONE}"), "tags/list".to_owned()]
        {
            let answer = client.get(&format!("/v2/org/app/{part}")).await;
            assert_eq!(answer.status, status, "{part}: {}", answer.text());
            let error = &answer.json()["errors"][0];
            assert_eq!(error["detail"]["request"], answer.header("x-request-id"));
            assert!(error["message"].as_str().unwrap().contains(&registry.host()), "whom it asked: {error}");
        }
        handle.revoke();
    }
    registry.stop().await;
    let answer = client.get("/v2/org/app/manifests/1").await;
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn t32_an_upstream_that_never_connects_is_502_and_then_502_at_once() {
    let hole = BlackHole::open();
    let lines = "connect_timeout = \"200ms\"\nbreaker_window = \"1h\"";
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n{lines}\n", hole.url());
    let mirror = Mirror::start(toml).await;
    for _closed_and_open in 0..3 {
        let answer = mirror.client().get("/v2/org/app/manifests/1").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    let answer = mirror.client().get("/v2/org/app/manifests/1").await;
    assert!(answer.text().contains("failed a moment ago") && !answer.header("retry-after").is_empty());
    let asked = mirror.metric(
        "roadstead_upstream_requests_total{authority=\"docker.io\",kind=\"manifest\",method=\"GET\",status=\"error\"}",
    );
    assert_eq!(asked, 1.0, "nobody waits twice");
}

#[tokio::test]
async fn t13_a_message_of_upstreams_own_is_not_passed_on() {
    let registry = Upstream::start().await;
    let mirror = Mirror::start(upstream("docker.io", &registry, "")).await;
    for status in [400, 403, 404, 500] {
        registry.clear_script();
        let leak = Content::from("{\"errors\":[{\"code\":\"X\",\"message\":\"marker-from-upstream\"}]}");
        registry.script(every_request().always().status(status).body(leak).header("warning", "299 - \"marker-too\""));
        let answer = mirror.client().get(&format!("/v2/org/app{status}/manifests/1")).await;
        assert!(answer.status >= 400);
        assert!(!answer.text().contains("marker") && !answer.header("warning").contains("marker"), "{status}");
    }
}

#[tokio::test]
async fn too_many_requests_in_flight_here_are_503_with_retry_after() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(10, 1)]));
    let toml = upstream("docker.io", &registry, "");
    let mirror = Mirror::builder(toml).server("max_requests = 1").start().await;
    let gate = Gate::closed();
    registry.script(manifests().get().once().stall_before_headers(&gate));
    let client = mirror.client();
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.get("/v2/org/app/manifests/1").await }
    });
    gate.arrived().await;
    for _again in 0..3 {
        let answer = client.send(Method::GET, "/v2/?ns=docker.io", &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.header("oci-namespace"), "docker.io");
        assert_eq!(answer.json()["errors"][0]["detail"]["request"], answer.header("x-request-id"));
    }
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(client.get("/v2/").await.status, 200);
}
