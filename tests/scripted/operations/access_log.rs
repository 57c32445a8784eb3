//! One line per request, in text and in JSON, with everything that the issue names.

use serde_json::Value;

use super::program::Program;
use crate::support::image::{image, index};
use crate::support::upstream::*;

async fn start(format: &str) -> (Upstream, Program) {
    let registry = Upstream::start().await;
    let toml = format!(
        "[server]\nlog_format = \"{format}\"\n[storage]\npath = \"data\"\n\
         [upstreams.\"docker.io\"]\nurl = \"{}\"\ntag_ttl = \"0s\"\n[[upstreams.\"docker.io\".freshness]]\nmatch = \"org/fresh\"\ntag_ttl = \"1h\"\n",
        registry.url()
    );
    (registry, Program::of(&toml).await)
}

/// The line of the request that was answered with this id.
async fn line_of(program: &Program, answer: &crate::support::client::Answer) -> String {
    let id = answer.header("x-request-id");
    assert_eq!(id.len(), 16);
    let lines = program.lines_with(id, 1).await;
    assert_eq!(lines.len(), 1, "one line per request: {lines:?}");
    lines[0].clone()
}

#[tokio::test]
async fn every_outcome_has_its_line_with_all_fields_in_json() {
    let (registry, program) = start("json").await;
    let client = program.client();
    let list = index(&[]);
    registry.publish("org/fresh", "1", &list);
    registry.publish("org/app", "1", &list);
    let content = blob(100_000, 1);
    let digest = registry.blob("org/fresh", &content);
    let manifest = "/v2/docker.io/org/fresh/manifests/1";
    let blob_path = format!("/v2/org/fresh/blobs/{digest}");

    let fill = client.get(&blob_path).await;
    let miss = client.get(manifest).await;
    let hit = client.get(manifest).await;
    let head = client.head(manifest).await;
    let absent = client.get("/v2/org/fresh/manifests/none").await;
    let negative = client.get("/v2/org/fresh/manifests/none").await;
    client.get("/v2/org/app/manifests/1").await;
    registry.script(manifests().repository("org/app").always().status(500));
    let stale = client.get("/v2/org/app/manifests/1").await;
    let error = client.get("/v2/org/app/manifests/2").await;
    let size = list.manifest.len() as u64;
    for (answer, kind, repository, reference, outcome, status, bytes) in [
        (&fill, "blob", "org/fresh", digest.as_str(), "fill", 200, 100_000),
        (&miss, "manifest", "org/fresh", "1", "fill", 200, size),
        (&hit, "manifest", "org/fresh", "1", "hit", 200, size),
        (&head, "manifest", "org/fresh", "1", "hit", 200, 0),
        (&absent, "manifest", "org/fresh", "none", "error", 404, absent.body.len() as u64),
        (&negative, "manifest", "org/fresh", "none", "negative", 404, negative.body.len() as u64),
        (&stale, "manifest", "org/app", "1", "stale", 200, size),
        (&error, "manifest", "org/app", "2", "error", 502, error.body.len() as u64),
    ] {
        let line: Value = serde_json::from_str(&line_of(&program, answer).await).unwrap();
        assert_eq!(line["authority"], "docker.io", "{line}");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        assert_eq!(line["kind"], kind, "{line}");
        assert_eq!(line["repository"], repository, "{line}");
        assert_eq!(line["reference"], reference, "{line}");
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["bytes"], bytes, "{line}");
        assert_eq!(line["method"], if bytes == 0 { "HEAD" } else { "GET" }, "{line}");
        let (all, first) = (line["ms"].as_f64().unwrap(), line["first_byte_ms"].as_f64());
        assert_eq!(first.is_some(), bytes > 0, "without a body there is no first byte: {line}");
        assert!(all > 0.0 && first.is_none_or(|first| first > 0.0 && first <= all), "{line}");
        assert_eq!(line.get("error").is_none(), status == 200, "{line}");
        assert_eq!(line["level"], if status == 502 { "WARN" } else { "INFO" }, "{line}");
        assert!(line["timestamp"].as_str().unwrap().contains('T'), "{line}");
    }
}

#[tokio::test]
async fn the_same_in_text() {
    let (registry, program) = start("text").await;
    registry.publish("org/fresh", "1", &index(&[]));
    let answer = program.client().get("/v2/org/fresh/manifests/1").await;
    let line = line_of(&program, &answer).await;
    for field in [
        "client=127.0.0.1",
        "method=\"GET\"",
        "kind=\"manifest\"",
        "authority=\"docker.io\"",
        "repository=\"org/fresh\"",
        "reference=\"1\"",
        "status=200",
        "outcome=\"fill\"",
        "bytes=",
        "ms=",
        "first_byte_ms=",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    let refused = program.client().get("/v2/Bad/manifests/1").await;
    assert!(line_of(&program, &refused).await.contains("status=400"));
    let elsewhere = program.client().get("/metrics").await;
    assert!(line_of(&program, &elsewhere).await.contains("status=404"));
}

#[tokio::test]
async fn joined_readers_and_clients_that_leave_have_their_lines_too() {
    let (registry, program) = start("json").await;
    let digest = registry.blob("org/app", blob(1_000_000, 1));
    let gate = Gate::closed();
    registry.script(blobs().get().once().stall_after(100_000, &gate));
    let path = format!("/v2/org/app/blobs/{digest}");
    let client = program.client();
    let leaver = client.open(http::Method::GET, &path, &[]).await.unwrap();
    gate.arrived().await;
    let joined = client.open(http::Method::GET, &path, &[]).await.unwrap();
    let id = |response: &reqwest::Response| response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let (left, stayed) = (id(&leaver), id(&joined));
    drop(leaver);
    let line: Value = serde_json::from_str(&program.line(&left).await).unwrap();
    assert_eq!((&line["outcome"], &line["error"]), (&"fill".into(), &"the client left".into()), "{line}");
    gate.open();
    assert_eq!(joined.bytes().await.unwrap().len(), 1_000_000);
    let line: Value = serde_json::from_str(&program.line(&stayed).await).unwrap();
    assert_eq!((&line["outcome"], &line["bytes"]), (&"joined".into(), &1_000_000.into()), "{line}");

    // One that leaves before there is an answer.
    let gate = Gate::closed();
    registry.publish("org/app", "1", &image(&[]));
    registry.script(manifests().get().once().stall_before_headers(&gate));
    let early = tokio::spawn({
        let client = client.clone();
        async move { client.get("/v2/org/app/manifests/1").await }
    });
    gate.arrived().await;
    early.abort();
    let line: Value = serde_json::from_str(&program.line("\"status\":499").await).unwrap();
    assert_eq!((&line["reference"], &line["error"]), (&"1".into(), &"the client left".into()), "{line}");
    gate.open();
}

#[tokio::test]
async fn t8_nothing_in_a_request_makes_a_second_line() {
    let (_registry, program) = start("text").await;
    for path in ["/v2/org/app%0aINFO%20forged/manifests/1", "/v2/org/app/manifests/x%0d%0aforged", "/%0aforged"] {
        let answer = program.client().get(path).await;
        assert!(answer.status >= 400);
        line_of(&program, &answer).await;
    }
    assert!(!program.log().lines().any(|line| line.starts_with("forged") || line.starts_with("INFO")));
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_stalls_no_answer() {
    let (registry, program) = start("text").await;
    registry.publish("org/fresh", "1", &index(&[]));
    let client = program.client();
    let deaf = program.deaf().await;
    // A pipe holds 64 KiB; lines of this path, far less than as many.
    let long = format!("/v2/{}/manifests/1", "x".repeat(250));
    for _ in 0..600 {
        assert_eq!(client.get("/v2/org/fresh/manifests/1").await.status, 200);
        assert_eq!(client.get(&long).await.status, 404);
    }
    drop(deaf);
    // Lines that were kept in the meantime come out, and so do new ones.
    let last = client.get("/v2/org/fresh/manifests/1").await;
    line_of(&program, &last).await;
    assert!(program.lines_with("reference=\"1\"", 600).await.len() >= 600);
}

#[tokio::test]
async fn a_line_has_the_user_agent_escaped_and_capped() {
    let (registry, program) = start("json").await;
    registry.publish("org/fresh", "1", &index(&[]));
    let long = "x".repeat(1000);
    for (sent, logged) in
        [("containerd/2.1", "containerd/2.1"), ("a \"b\" \\ c", "a \"b\" \\ c"), (&*long, &long[..256])]
    {
        let headers = [("user-agent", sent)];
        let answer = program.client().send(http::Method::GET, "/v2/org/fresh/manifests/1", &headers).await;
        let line: Value = serde_json::from_str(&line_of(&program, &answer).await).unwrap();
        assert_eq!(line["agent"], logged, "{line}");
    }
}

#[tokio::test]
async fn a_request_for_an_unknown_registry_keeps_its_repository_in_its_line() {
    let (_registry, program) = start("json").await;
    let answer = program.client().get("/v2/registry.unknown.test/org/app/manifests/1?ns=registry.unknown.test").await;
    assert_eq!(answer.status, 404);
    let line: Value = serde_json::from_str(&line_of(&program, &answer).await).unwrap();
    assert_eq!(line["repository"], "registry.unknown.test/org/app", "{line}");
    assert_eq!((&line["kind"], &line["reference"]), (&"manifest".into(), &"1".into()), "{line}");
}
