//! Headers that are sent upstream, and headers that are not.

use http::Method;

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t10_nothing_that_a_client_sends_reaches_upstream() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let sent = [
        ("authorization", "Bearer MARKER-client"),
        ("proxy-authorization", "Basic MARKER"),
        ("cookie", "session=MARKER"),
        ("x-forwarded-for", "MARKER"),
        ("x-registry-auth", "MARKER"),
        ("user-agent", "MARKER"),
        ("accept", "application/MARKER"),
        ("accept-encoding", "gzip"),
        ("referer", "http://MARKER/"),
    ];
    let layer = blob_path("library/app", &app.layers()[0].digest);
    for path in [APP, &layer, "/v2/library/app/tags/list", &format!("/v2/library/app/referrers/{}", app.digest)] {
        assert_eq!(mirror.client().send(Method::GET, path, &sent).await.status, 200, "{path}");
    }
    mirror.advance(std::time::Duration::from_mins(1));
    assert_eq!(mirror.client().send(Method::GET, APP, &sent).await.status, 200);
    let asked = upstream.requests();
    assert_eq!(asked.len(), 5, "the manifest, the layer, tags, referrers, and HEAD of the manifest");
    for request in asked {
        let seen = format!("{:?} {}", request.headers, request.query);
        assert!(!seen.contains("MARKER") && !seen.contains("gzip"), "{}: {seen}", request.line());
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn the_mirror_names_itself_and_asks_for_everything_as_it_is() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(APP).await;
    mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await;
    for request in upstream.requests() {
        assert!(request.header("user-agent").unwrap().starts_with("roadstead/"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("via").unwrap().starts_with("1.1 roadstead-"));
    }
    for request in upstream.requests_of(&manifests()) {
        let accept = request.header("accept").unwrap();
        for wanted in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ] {
            assert!(accept.contains(wanted), "{accept}");
        }
        assert!(!accept.contains("v1+prettyjws"), "schema 1 is not asked for");
    }
}

#[tokio::test]
async fn ns_and_oci_ref_name_stay_here_unless_they_are_to_be_forwarded() {
    for (lines, expected) in [("", ""), ("forward_ns = true", "ns=docker.io")] {
        let upstream = Upstream::start().await;
        let app = publish_app(&upstream);
        let mirror = Mirror::start(hub(upstream.url(), lines)).await;
        let claims = "ns=docker.io&oci-ref-name=docker.io%2Flibrary%2Fapp%3Av1";
        let layer = blob_path("library/app", &app.layers()[0].digest);
        for path in [APP, &layer] {
            assert_eq!(mirror.client().get(&format!("{path}?{claims}&other=1")).await.status, 200);
        }
        assert!(upstream.requests().iter().all(|request| request.query == expected), "{lines}");
        upstream.forget_requests();
        assert_eq!(mirror.client().get(&format!("/v2/library/app/tags/list?{claims}&n=5")).await.status, 200);
        let query = upstream.requests()[0].query.clone();
        assert_eq!(query, if expected.is_empty() { "n=5".to_owned() } else { format!("n=5&{expected}") });
    }
}

#[tokio::test]
async fn what_is_left_of_a_ration_is_shown_as_upstream_reports_it() {
    let (upstream, network) = (Upstream::start().await, Upstream::start().await);
    let app = publish_app(&upstream);
    publish_app(&network);
    upstream.script(manifests().always().rate_limit("100;w=21600", "76;w=21600"));
    network.script(every_request().always().rate_limit("9;w=1", "9;w=1"));
    upstream.script(blobs().always().redirect_to(&network));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    assert_eq!(mirror.client().get(APP).await.status, 200);
    assert_eq!(mirror.client().get(&blob_path("library/app", &app.layers()[0].digest)).await.status, 200);
    let shown = mirror.metric("roadstead_rate_limit_remaining{authority=\"docker.io\"}");
    assert_eq!(shown.to_string(), "76");
}
