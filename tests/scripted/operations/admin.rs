//! The admin side (docs/SECURITY-THREATS.md, T35).

use http::Method;

use crate::support::client::Client;
use crate::support::mirror::Mirror;

const NOWHERE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n";

#[tokio::test]
async fn health_and_metrics_are_on_the_admin_address_and_nothing_else_is() {
    let mirror = Mirror::start(NOWHERE).await;
    let admin = Client::new(mirror.admin);
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
    let metrics = admin.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert!(admin.get("/").await.text().starts_with("<!DOCTYPE html>"));
    for path in ["/v2/", "/v2/org/app/manifests/1", "/v2/org/app/tags/list", "/debug", "/config", "/livez/"] {
        assert_eq!(admin.get(path).await.status, 404, "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = admin.send(method, "/metrics", &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    }
}

#[tokio::test]
async fn t35_off_loopback_metrics_need_the_token_and_health_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "right-token\n").unwrap();
    let lines = format!("admin_token_file = \"{}\"", file.display());
    let mirror = Mirror::builder(NOWHERE).admin_listen("0.0.0.0:0").server(&lines).start().await;
    let admin = Client::new(([127, 0, 0, 1], mirror.admin.port()).into());
    for path in ["/livez", "/readyz"] {
        assert_eq!(admin.get(path).await.status, 200);
    }
    let metrics = async |authorization: &str| {
        let headers: &[_] = if authorization.is_empty() { &[] } else { &[("authorization", authorization)] };
        admin.send(Method::GET, "/metrics", headers).await.status
    };
    for wrong in
        ["", "Bearer", "Bearer ", "Bearer wrong", "Bearer right-toke", "Bearer right-token2", "Basic right-token"]
    {
        assert_eq!(metrics(wrong).await, 403, "{wrong:?}");
    }
    assert_eq!(metrics("Bearer right-token").await, 200);
    // A change of the file needs no restart; an empty one opens nothing.
    std::fs::write(&file, "other-token").unwrap();
    assert_eq!((metrics("Bearer right-token").await, metrics("Bearer other-token").await), (403, 200));
    std::fs::write(&file, "\n").unwrap();
    assert_eq!((metrics("Bearer ").await, metrics("Bearer other-token").await), (403, 403));
}

#[tokio::test]
async fn t35_off_loopback_without_a_token_file_nobody_reads_metrics() {
    let mirror = Mirror::builder(NOWHERE).admin_listen("0.0.0.0:0").start().await;
    let admin = Client::new(([127, 0, 0, 1], mirror.admin.port()).into());
    assert_eq!(admin.get("/metrics").await.status, 403);
    assert_eq!(admin.get("/readyz").await.status, 200);
}
