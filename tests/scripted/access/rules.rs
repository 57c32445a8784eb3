//! What the rules refuse is refused for every kind of request, held or not.

use http::Method;

use super::{Guarded, both, htpasswd, login, rule, toml, write_files};
use crate::support::image::{Image, image};
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const NODE: (&str, &str) = ("x-roadstead-key", "node-secret-marker");

/// Every kind of request for an image.
fn paths(repository: &str, app: &Image) -> Vec<String> {
    let layer = &app.layers()[0].digest;
    [
        "manifests/1".to_owned(),
        format!("manifests/{}", app.digest),
        format!("blobs/{layer}"),
        "tags/list".to_owned(),
        format!("referrers/{}", app.digest),
    ]
    .map(|part| format!("/v2/{repository}/{part}"))
    .to_vec()
}

#[tokio::test]
async fn t80_what_one_identity_may_not_read_anothers_cached_copy_does_not_give() {
    let (registry, files) = (Upstream::start().await, tempfile::tempdir().unwrap());
    write_files(files.path());
    let app = image(&[blob(100_000, 1)]);
    registry.publish("org/secret", "1", &app);
    registry.publish("library/app", "1", &image(&[blob(100, 2)]));
    let rules = both(files.path())
        + &rule("[\"user:a\"]", "[\"docker.io/**\"]", true)
        + &rule("[\"user:b\", \"user:node\", \"anonymous\"]", "[\"docker.io/library/**\"]", true);
    let (warm, cold) = (Mirror::start(toml(&registry, &rules)).await, Mirror::start(toml(&registry, &rules)).await);
    let (a, b) = (login("a"), login("b"));
    for path in paths("org/secret", &app) {
        let answer = warm.client().send(Method::GET, &path, &[("authorization", &a)]).await;
        assert_eq!(answer.status, 200, "{path} {}", answer.text());
        assert!(answer.header("cache-control").starts_with("private, "), "{path}: {}", answer.header("cache-control"));
    }
    registry.forget_requests();
    let layer = &app.layers()[0].digest;
    let etags = [&app.digest, layer].map(|digest| format!("\"{digest}\""));
    for path in paths("org/secret", &app) {
        for who in [vec![("authorization", b.as_str())], vec![NODE], vec![]] {
            for more in [
                vec![],
                vec![("range", "bytes=0-9")],
                vec![("range", "bytes=0-1,10-11")],
                vec![("if-none-match", etags[0].as_str())],
                vec![("if-none-match", etags[1].as_str())],
                vec![("if-none-match", "*")],
                vec![("range", "bytes=0-9"), ("if-range", etags[1].as_str())],
            ] {
                for method in [Method::GET, Method::HEAD] {
                    for named in [path.clone(), format!("{path}?ns=docker.io"), format!("/docker.io{path}")] {
                        let headers = [who.clone(), more.clone()].concat();
                        let (hit, miss) = (
                            warm.client().send(method.clone(), &named, &headers).await,
                            cold.client().send(method.clone(), &named, &headers).await,
                        );
                        assert_eq!((hit.status, miss.status), (403, 403), "{method} {named} {headers:?}");
                        assert_eq!(hit.body, miss.body, "the same on a hit and a miss");
                        for name in [
                            "docker-content-digest",
                            "etag",
                            "cache-status",
                            "age",
                            "content-range",
                            "www-authenticate",
                        ] {
                            assert_eq!(hit.header(name), "", "{method} {named}: {name}");
                        }
                        assert_eq!(hit.header("content-length"), miss.header("content-length"));
                        if method == Method::GET {
                            assert_eq!(hit.code(), "DENIED");
                        }
                    }
                }
            }
        }
    }
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    // Nor what is not there at all.
    let absent = warm.client().send(Method::GET, "/v2/org/absent/manifests/1", &[("authorization", &b)]).await;
    assert_eq!((absent.status, absent.code().as_str()), (403, "DENIED"));
    for who in [vec![("authorization", b.as_str())], vec![NODE], vec![]] {
        assert_eq!(warm.client().send(Method::GET, "/v2/app/manifests/1", &who).await.status, 200, "{who:?}");
    }
    let refused = |identity: &str| {
        warm.metric(&format!("roadstead_identity_requests_total{{identity=\"{identity}\",result=\"refused\"}}"))
    };
    assert!(refused("b") > 200.0 && refused("node") > 200.0 && refused("anonymous") > 200.0);
}

#[tokio::test]
async fn networks_are_identities_without_anything_to_show() {
    let access = |network: &'static str| {
        move |files: &std::path::Path| {
            format!("anonymous = false\n{}", htpasswd(files))
                + &rule(&format!("[\"network:{network}\"]"), "[\"docker.io/library/*\"]", true)
        }
    };
    let inside = Guarded::start(access("127.0.0.0/8")).await;
    inside.publish("library/app");
    inside.publish("org/app");
    let log = Log::begin();
    assert_eq!(inside.get("/v2/", &[]).await.status, 200);
    assert_eq!(inside.get("/v2/app/manifests/1", &[]).await.status, 200);
    assert!(log.text().contains("\"identity\":\"network:127.0.0.0/8\""), "{}", log.text());
    let elsewhere = inside.get("/v2/org/app/manifests/1", &[]).await;
    assert_eq!((elsewhere.status, elsewhere.header("www-authenticate")), (401, "Basic realm=\"roadstead\""));
    // What a client says of where it comes from is not believed.
    let outside = Guarded::start(access("10.0.0.0/8")).await;
    outside.publish("library/app");
    for forged in [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1"), ("x-real-ip", "10.0.0.1")] {
        assert_eq!(outside.get("/v2/app/manifests/1", &[forged]).await.status, 401, "{forged:?}");
    }
    assert_eq!(outside.get("/v2/", &[]).await.status, 401);
}

#[tokio::test]
async fn the_first_rule_decides_and_a_tag_opens_content() {
    let guarded = Guarded::start(|files| {
        htpasswd(files)
            + &rule("[\"user:a\"]", "[\"docker.io/org/app:dev-*\"]", false)
            + &rule("[\"user:*\"]", "[\"docker.io/org/app:1\", \"docker.io/org/app:dev-*\"]", true)
    })
    .await;
    let app = guarded.publish("org/app");
    for tag in ["dev-1", "2"] {
        guarded.registry.publish("org/app", tag, &app);
    }
    let (a, b) = (login("a"), login("b"));
    let by_digest = format!("manifests/{}", app.digest);
    let blob = format!("blobs/{}", app.layers()[0].digest);
    for (who, part, status) in [
        (&a, "manifests/1", 200),
        (&a, "manifests/dev-1", 403),
        (&b, "manifests/dev-1", 200),
        (&b, "manifests/2", 403),
        (&a, by_digest.as_str(), 200),
        (&a, blob.as_str(), 200),
        (&a, "tags/list", 403),
    ] {
        let answer = guarded.get(&format!("/v2/org/app/{part}"), &[("authorization", who)]).await;
        assert_eq!(answer.status, status, "{part}");
    }
}

#[tokio::test]
async fn without_rules_whoever_is_let_in_reads_everything() {
    let guarded = Guarded::start(|files| format!("anonymous = false\n{}", both(files))).await;
    guarded.publish("org/app");
    for who in [("authorization", login("a").as_str()), NODE] {
        assert_eq!(guarded.get("/v2/org/app/manifests/1", &[who]).await.status, 200);
    }
    assert_eq!(guarded.get("/v2/org/app/manifests/1", &[]).await.status, 401);
    assert_eq!(guarded.get("/nothing", &[]).await.status, 401, "before the path is read");
}

#[tokio::test]
async fn the_identity_is_in_the_log() {
    let guarded = Guarded::start(both).await;
    guarded.publish("org/app");
    let log = Log::begin();
    guarded.get("/v2/org/app/manifests/1", &[("authorization", &login("a"))]).await;
    guarded.get("/v2/org/app/manifests/1", &[NODE]).await;
    guarded.get("/v2/org/app/manifests/1", &[]).await;
    guarded.get("/v2/org/app/manifests/1", &[("authorization", &super::basic("a", "guess-marker"))]).await;
    let text = log.text();
    for identity in ["a", "node", "anonymous"] {
        assert!(text.contains(&format!("\"identity\":\"{identity}\"")), "{identity}: {text}");
    }
    assert!(text.contains("a login was refused"), "{text}");
    assert!(!text.contains("-marker"), "T84 nothing of what was shown: {text}");
    drop(guarded.files);
}
