//! Each way to name an upstream, over sockets, and what is refused.

use http::Method;

use super::upstream;
use crate::support::client::raw;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Docker Hub holds `library/app` and `org/app`, Quay `org/app`; all tags are `1`, and no two images are alike.
async fn two() -> (Upstream, Upstream, Mirror) {
    let (hub, quay) = (Upstream::start().await, Upstream::start().await);
    hub.publish("library/app", "1", &image(&[blob(10, 1)]));
    hub.publish("org/app", "1", &image(&[blob(10, 2)]));
    quay.publish("org/app", "1", &image(&[blob(10, 3)]));
    let hub_lines = "aliases = [\"hub.corp\"]\nprefix = \"hub\"";
    let toml = upstream("docker.io", &hub, hub_lines) + &upstream("quay.io", &quay, "prefix = \"quay\"");
    let mirror = Mirror::builder(toml).server("hostnames = [\"mirror.elsewhere\"]").start().await;
    (hub, quay, mirror)
}

fn asked(registry: &Upstream) -> String {
    let repositories = registry.requests().iter().filter_map(|r| r.repository.clone()).collect::<Vec<_>>();
    registry.forget_requests();
    repositories.first().cloned().unwrap_or_default()
}

#[tokio::test]
async fn each_form_of_a_request_reaches_its_upstream_and_no_other() {
    let (hub, quay, mirror) = two().await;
    let client = mirror.client();
    for (path, host, at_hub, at_quay) in [
        ("/v2/org/app/manifests/1?ns=quay.io", "", "", "org/app"),
        ("/v2/org/app/manifests/1?ns=QUAY.io%3A443", "", "", "org/app"),
        ("/v2/quay.io/org/app/manifests/1?ns=quay.io", "", "", "org/app"),
        ("/v2/quay.io/org/app/manifests/1", "", "", "org/app"),
        ("/v2/org/app/manifests/1?oci-ref-name=quay.io/org/app:1", "", "", "org/app"),
        ("/v2/org/app/manifests/1?oci-ref-name=quay.io", "", "", "org/app"),
        ("/v2/org/app/manifests/1", "quay.io", "", "org/app"),
        ("/v2/org/app/manifests/1", "mirror.elsewhere", "org/app", ""),
        ("/v2/org/app/manifests/1", "", "org/app", ""),
        ("/v2/hub/org/app/manifests/1", "", "org/app", ""),
        ("/v2/app/manifests/1", "", "library/app", ""),
        ("/v2/app/manifests/1?ns=registry-1.docker.io", "", "library/app", ""),
        ("/v2/docker.io/app/manifests/1", "", "library/app", ""),
        ("/v2/index.docker.io/library/app/manifests/1", "", "library/app", ""),
        ("/v2/hub/app/manifests/1", "", "library/app", ""),
        ("/v2/hub.corp/app/manifests/1", "", "library/app", ""),
        ("/v2/registry.hub.docker.com/library/app/manifests/1", "", "library/app", ""),
        // A rewritten path beside `ns`: Harbor, Artifactory, Talos, k3s, regctl.
        ("/v2/hub/library/app/manifests/1?ns=docker.io", "", "library/app", ""),
        ("/v2/hub/app/manifests/1?ns=registry-1.docker.io", "", "library/app", ""),
        ("/v2/quay/org/app/manifests/1?ns=quay.io", "", "", "org/app"),
        ("/v2/quay/org/app/manifests/1?oci-ref-name=quay.io/org/app:1", "", "", "org/app"),
        ("/v2/quay/org/app/manifests/1", "quay.io", "", "org/app"),
        // A registry in front of /v2/: hosts.toml without `override_path`, Artifactory, Bazel.
        ("/quay.io/v2/org/app/manifests/1", "", "", "org/app"),
        ("/quay.io/v2/org/app/manifests/1?ns=quay.io", "", "", "org/app"),
        ("/quay/v2/org/app/manifests/1", "mirror.elsewhere", "", "org/app"),
        ("/hub/v2/app/manifests/1?ns=docker.io", "", "library/app", ""),
        ("/index.docker.io/v2/library/app/manifests/1", "", "library/app", ""),
        ("/v2/library/app/manifests/1?oci-ref-name=app:7", "", "library/app", ""),
        ("/v2/app/manifests/1", "registry-1.docker.io", "library/app", ""),
    ] {
        let headers: &[_] = if host.is_empty() { &[] } else { &[("host", host)] };
        // Each form is a pull of its own: what is cached is let go.
        mirror.advance(std::time::Duration::from_mins(2));
        let answer = client.send(Method::GET, path, headers).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!((asked(&hub).as_str(), asked(&quay).as_str()), (at_hub, at_quay), "{path} with Host {host:?}");
    }
}

#[tokio::test]
async fn t6_what_could_mean_two_things_is_refused_with_name_invalid() {
    let (hub, quay, mirror) = two().await;
    for path in [
        "/v2/org/app/manifests/1?ns=quay.io&ns=quay.io",
        "/v2/org/app/manifests/1?ns=quay.io&ns=docker.io",
        "/v2/org/app/manifests/1?ns=quay.io&oci-ref-name=docker.io/org/app",
        "/v2/org/app/manifests/1?oci-ref-name=quay.io/org/app&oci-ref-name=quay.io/org/app",
        "/v2/org/app/manifests/1?oci-ref-name=quay.io/org/other",
        "/v2/docker.io/org/app/manifests/1?ns=quay.io",
        "/v2/index.docker.io/org/app/manifests/1?oci-ref-name=quay.io",
        "/v2/quay.io/manifests/1",
        "/v2/hub/manifests/1",
        "/v2/org%2Fapp/manifests/1",
        "/v2/org%2fapp/tags/list",
        "/v2/org//app/manifests/1",
        "/v2//org/app/manifests/1",
        "/v2/org/../app/manifests/1",
        "/v2/../app/manifests/1",
        "/v2/org/./app/manifests/1",
        "/v2/org/%2e%2e/app/manifests/1",
        "/v2/org/app%00/manifests/1",
        "/v2/Org/app/manifests/1",
        "/docker.io/v2/org/app/manifests/1?ns=quay.io",
        "/hub/v2/org/app/manifests/1?ns=quay.io",
        "/hub/v2/?ns=quay.io",
        "/quay.io/v2/docker.io/org/app/manifests/1",
        "/quay.io%2Fv2/v2/org/app/manifests/1",
        "/v2/org/app/manifests/1?ns=",
        "/v2/org/app/manifests/1?ns=https://quay.io",
        "/v2/org/app/manifests/1?ns=user@quay.io",
        "/v2/org/app/manifests/1?ns=quay.io/org",
        "/v2/org/app/manifests/1?ns=quay.io.",
        "/v2/org/app/manifests/1?ns=quay.io:0",
        "/v2/org/app/manifests/1?ns=quay.io%0d%0ax:y",
    ] {
        let answer =
            raw(mirror.address, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("NAME_INVALID"), "{path}: {answer}");
    }
    assert!(hub.requests().is_empty() && quay.requests().is_empty());
}

#[tokio::test]
async fn t1_an_authority_that_is_not_configured_is_never_contacted() {
    let canary = Canary::listen();
    let mirror = Mirror::of("docker.io", "http://127.0.0.1:9").await;
    let evil = canary.address().to_string();
    let client = mirror.client();
    for path in [
        format!("/v2/org/app/manifests/1?ns={evil}"),
        format!("/v2/org/app/blobs/sha256:{}?ns={evil}", "0".repeat(64)),
        format!("/v2/org/app/tags/list?ns={evil}"),
        format!("/v2/org/app/manifests/1?oci-ref-name={evil}/org/app:1"),
        format!("/v2/{evil}/org/app/manifests/1"),
        format!("/v2/localhost:{}/org/app/manifests/1", canary.address().port()),
        "/v2/localhost/org/app/manifests/1".to_owned(),
        "/v2/unknown.test/org/app/manifests/1".to_owned(),
        format!("/v2/?ns={evil}"),
        format!("/{evil}/v2/"),
        format!("/{evil}/v2/org/app/manifests/1"),
        "/unknown.test/v2/org/app/tags/list".to_owned(),
    ] {
        let answer = client.get(&path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NAME_UNKNOWN"), "{path}");
        assert!(!answer.headers.contains_key("oci-namespace"), "{path}");
    }
    // Helm and oras give up on NAME_UNKNOWN here.
    let answer = client.get(&format!("/v2/org/app/referrers/sha256:{}?ns={evil}", "0".repeat(64))).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    // A Host that names nothing configured means the default authority, wherever it is.
    let answer = client.send(Method::GET, "/v2/org/app/manifests/1", &[("host", &evil)]).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    canary.assert_untouched();
}

#[tokio::test]
async fn what_is_scoped_by_ns_says_so_whatever_the_answer() {
    let (_hub, quay, mirror) = two().await;
    quay.script(manifests().reference("broken").always().status(500));
    let client = mirror.client();
    let digest = format!("sha256:{}", "0".repeat(64));
    for (path, method, status) in [
        ("/v2/?ns=quay.io", Method::GET, 200),
        ("/v2/org/app/manifests/1?ns=QUAY.IO:443", Method::GET, 200),
        ("/v2/org/app/manifests/1?ns=quay.io", Method::HEAD, 200),
        ("/v2/org/app/tags/list?ns=quay.io", Method::GET, 200),
        (&format!("/v2/org/app/referrers/{digest}?ns=quay.io"), Method::GET, 200),
        ("/v2/org/app/manifests/none?ns=quay.io", Method::GET, 404),
        (&format!("/v2/org/app/blobs/{digest}?ns=quay.io"), Method::GET, 404),
        ("/v2/org/app/manifests/broken?ns=quay.io", Method::GET, 502),
        ("/v2/org/app/manifests/.bad?ns=quay.io", Method::GET, 400),
        ("/v2/Org/app/manifests/1?ns=quay.io", Method::GET, 400),
        ("/v2/org/app/manifests/1?ns=quay.io&oci-ref-name=docker.io", Method::GET, 400),
        ("/v2/org/app/manifests/1?ns=quay.io", Method::PUT, 405),
        ("/v2/org/app/blobs/uploads/?ns=quay.io", Method::POST, 405),
        ("/v2/?ns=quay.io", Method::DELETE, 405),
    ] {
        let answer = client.send(method.clone(), path, &[]).await;
        assert_eq!((answer.status, answer.header("oci-namespace")), (status, "quay.io"), "{method} {path}");
    }
    let answer = client.get("/v2/app/manifests/1?ns=Registry-1.docker.io").await;
    assert_eq!(answer.header("oci-namespace"), "registry-1.docker.io", "the value received, normalised");
    let answer = client.get("/v2/quay.io/org/app/manifests/1").await;
    assert!(!answer.headers.contains_key("oci-namespace"), "nothing was scoped by ns");
}

/// The prefix of one registry is no contradiction to another's `ns`: repositories may be named like that.
#[tokio::test]
async fn the_prefix_of_another_registry_is_a_part_of_the_name() {
    let (hub, quay, mirror) = two().await;
    quay.publish("hub/app", "1", &image(&[blob(10, 4)]));
    hub.publish("hub/app", "1", &image(&[blob(10, 5)]));
    let client = mirror.client();
    for (path, at_hub, at_quay) in [
        ("/v2/hub/app/manifests/1?ns=quay.io", "", "hub/app"),
        ("/quay.io/v2/hub/app/manifests/1", "", "hub/app"),
        ("/v2/hub/hub/app/manifests/1?ns=docker.io", "hub/app", ""),
        ("/v2/hub/app/manifests/1?oci-ref-name=docker.io/hub/app:1", "hub/app", ""),
    ] {
        mirror.advance(std::time::Duration::from_mins(2));
        assert_eq!(client.get(path).await.status, 200, "{path}");
        assert_eq!((asked(&hub).as_str(), asked(&quay).as_str()), (at_hub, at_quay), "{path}");
    }
}

#[tokio::test]
async fn a_registry_in_front_of_v2_is_answered_there() {
    let (_hub, quay, mirror) = two().await;
    quay.tag("org/app", "2", &image(&[blob(10, 3)]).digest);
    let client = mirror.client();
    for path in ["/quay.io/v2/", "/hub/v2/", "/hub/v2", "/QUAY.io/v2/?ns=quay.io"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    let page = client.get("/quay.io/v2/org/app/tags/list?n=1").await;
    assert!(page.header("link").starts_with("</quay.io/v2/org/app/tags/list?"), "{:?}", page.headers);
    let link = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    assert_eq!(client.get(&link).await.json()["tags"], serde_json::json!(["2"]));
    let write = client.send(Method::POST, "/quay.io/v2/org/app/blobs/uploads/", &[]).await;
    assert_eq!((write.status, write.code().as_str()), (405, "UNSUPPORTED"));
}

#[tokio::test]
async fn ns_and_oci_ref_name_do_not_go_upstream() {
    let (_hub, quay, mirror) = two().await;
    let claims = "ns=quay.io&oci-ref-name=quay.io/org/app:1";
    let client = mirror.client();
    client.get(&format!("/v2/org/app/manifests/1?{claims}&x=y")).await;
    client.get(&format!("/v2/org/app/tags/list?{claims}&n=5&x=y&x=z")).await;
    for request in quay.requests() {
        let expected = if request.kind == Kind::Manifest { "" } else { "n=5" };
        assert_eq!(request.query, expected, "{}", request.path);
    }
}
