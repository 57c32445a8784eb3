//! T3, T4: where a redirect may lead, and what goes with it.

use super::secrets::Secrets;
use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Asked with credentials, so that something could leak.
async fn signed_in(upstream: &Upstream) -> (Secrets, Mirror) {
    let secrets = Secrets::new();
    upstream.basic_auth(BasicAuth::new().user("robot", "MARKER-password"));
    let mirror = Mirror::start(hub(upstream.url(), &secrets.login("robot", "MARKER-password"))).await;
    (secrets, mirror)
}

fn authorized(upstream: &Upstream) -> Vec<bool> {
    let requests = upstream.requests();
    requests.iter().map(|request| request.header("authorization").is_some()).collect()
}

#[tokio::test]
async fn t3_credentials_stay_with_the_endpoint_and_do_not_come_back_to_it() {
    let (a, b) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let content = blob(100_000, 1);
    let digest = a.blob("org/app", &content);
    let (_secrets, mirror) = signed_in(&a).await;
    a.script(blobs().get().once().redirect_to(&b));
    b.script(blobs().always().redirect(&format!("{}/signed", a.url())));
    a.file("/signed", &content);
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, content.sha256()));
    assert_eq!(authorized(&a), [false, true, false], "the challenge, the login, and A again behind B");
    assert_eq!(authorized(&b), [false]);
}

#[tokio::test]
async fn t3_another_port_of_the_same_host_is_another_host() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let content = blob(100_000, 1);
    let digest = a.blob("org/app", &content);
    b.blob("org/app", &content);
    let (_secrets, mirror) = signed_in(&a).await;
    a.script(blobs().get().once().redirect_to(&b));
    assert_eq!(mirror.client().get(&blob_path("org/app", &digest)).await.status, 200);
    assert_eq!(authorized(&b), [false]);
}

#[tokio::test]
async fn a_redirect_within_the_endpoint_keeps_its_credentials() {
    let upstream = Upstream::start().await;
    let content = blob(100_000, 1);
    let digest = upstream.blob("org/app", &content);
    upstream.blob("org/renamed", &content);
    let (_secrets, mirror) = signed_in(&upstream).await;
    let elsewhere = format!("/v2/org/renamed/blobs/{digest}");
    upstream.script(blobs().repository("org/app").always().status(301).header("location", &elsewhere));
    assert_eq!(mirror.client().get(&blob_path("org/app", &digest)).await.status, 200);
    assert_eq!(authorized(&upstream), [false, true, true]);
}

#[tokio::test]
async fn t3_https_does_not_lead_to_http() {
    let (secrets, ca, canary) = (Secrets::new(), TestCa::new(), Canary::listen());
    let upstream = Upstream::tls(&ca).await;
    publish_app(&upstream);
    ca.write_pem(&secrets.path("ca.pem"));
    let lines = format!("ca = \"{}\"", secrets.path("ca.pem").display());
    let mirror = Mirror::start(hub(upstream.url(), &lines)).await;
    upstream.script(manifests().always().redirect(&format!("{}{{path}}", canary.url())));
    let answer = mirror.client().get(APP).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("redirect from https to http"), "{}", answer.text());
    canary.assert_untouched();
}

#[tokio::test]
async fn five_hops_are_followed_and_a_sixth_is_not() {
    for (hops, expected) in [(5, 200), (6, 502)] {
        let upstream = Upstream::start().await;
        let content = blob(1000, 1);
        let digest = upstream.blob("org/app", &content);
        let hop = |n: usize| format!("{}/hop{n}", upstream.url());
        upstream.script(blobs().get().once().redirect(&hop(1)));
        for n in 1..hops {
            let is_hop = move |request: &Recorded| request.path == format!("/hop{n}");
            upstream.script(files().when(is_hop).once().redirect(&hop(n + 1)));
        }
        upstream.file(&format!("/hop{hops}"), &content);
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        assert_eq!(mirror.client().get(&blob_path("org/app", &digest)).await.status, expected, "{hops} hops");
        assert_eq!(upstream.requests().len(), 6, "the question and five hops");
    }
}

#[tokio::test]
async fn t4_link_local_addresses_and_other_schemes_are_never_followed() {
    let canary = Canary::listen();
    for location in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://[fd00:ec2::254]/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "http://",
        "",
        &format!("http://user:password@{}/x", canary.address()),
    ] {
        let upstream = Upstream::start().await;
        publish_app(&upstream);
        upstream.script(manifests().always().redirect(location));
        let lines = "private_hosts = [\"169.254.169.254\"]";
        let mirror = Mirror::start(hub(upstream.url(), lines)).await;
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, 502, "{location}");
        assert!(answer.text().contains("gave an answer that was refused"), "{location}: {}", answer.text());
    }
    canary.assert_untouched();
}

#[tokio::test]
async fn a_redirect_target_that_wants_a_token_gets_an_anonymous_one() {
    let secrets = Secrets::new();
    let (front, region) = (Upstream::start().await, Upstream::builder().address("127.0.0.2").start().await);
    let content = blob(100_000, 1);
    let digest = region.blob("k8s/images/pause", &content);
    let auth = TokenAuth::new().user("robot", "MARKER-password");
    region.token_auth(&auth);
    let location = format!("{}/v2/k8s/images/pause/blobs/{digest}", region.url());
    front.script(blobs().always().redirect(&location));
    let mirror = Mirror::start(hub(front.url(), &secrets.login("robot", "MARKER-password"))).await;
    assert_eq!(mirror.client().get(&blob_path("library/pause", &digest)).await.status, 200);
    let issued = auth.issued();
    assert_eq!((issued.len(), issued[0].user.as_deref()), (1, None));
    assert_eq!(issued[0].repositories, ["k8s/images/pause"], "the repository as the target files it");
    assert!(front.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn t3_a_redirect_target_that_wants_a_password_gets_none_and_blames_nobodys_credentials() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let digest = a.blob("org/app", blob(100_000, 1));
    b.basic_auth(BasicAuth::new().user("robot", "MARKER-password"));
    let (_secrets, mirror) = signed_in(&a).await;
    a.script(blobs().always().redirect_to(&b));
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(authorized(&b).iter().all(|sent| !sent));
}

#[tokio::test]
async fn t4_of_a_link_to_another_host_only_the_query_is_used() {
    let (upstream, canary) = (Upstream::start().await, Canary::listen());
    publish_app(&upstream);
    let link = format!("<{}/v2/library/app/tags/list?next_page=abc&n=1>; rel=\"next\"", canary.url());
    upstream.script(tag_lists().once().body(r#"{"name":"library/app","tags":["a"]}"#).header("link", &link));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get("/v2/library/app/tags/list?n=1").await;
    let next = answer.header("link").to_owned();
    assert!(next.starts_with("</v2/library/app/tags/list?") && next.contains("next_page=abc"), "{next}");
    assert!(!next.contains(&canary.address().to_string()), "{next}");
    let path = next.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(mirror.client().get(path).await.status, 200);
    assert!(upstream.requests()[1].query.contains("next_page=abc"));
    let subject = sha256(b"subject");
    let link = format!("<{}/v2/x?page=2>; rel=\"next\"", canary.url());
    let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let page = || referrers().once().body(empty).header("content-type", "application/vnd.oci.image.index.v1+json");
    upstream.script(page().header("link", &link));
    upstream.script(page());
    assert_eq!(mirror.client().get(&format!("/v2/library/app/referrers/{subject}")).await.status, 200);
    assert_eq!(upstream.requests_of(&referrers())[1].query, "page=2");
    canary.assert_untouched();
}
