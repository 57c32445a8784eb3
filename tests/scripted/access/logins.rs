//! Basic credentials, and keys in a header.

use futures_util::future::join_all;
use http::Method;

use super::{Guarded, basic, both, htpasswd, keys, login};
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::Upstream;

const APP: &str = "/v2/org/app/manifests/1";

fn closed(files: &std::path::Path) -> String {
    format!("anonymous = false\n{}", both(files))
}

#[tokio::test]
async fn nothing_right_shown_is_401_with_a_challenge() {
    let guarded = Guarded::start(closed).await;
    guarded.publish("org/app");
    let long = format!("Basic {}", "QUFB".repeat(2000));
    for wrong in [
        None,
        Some(basic("a", "wrong")),
        Some(basic("a", "")),
        Some(basic("nobody", "a-secret-marker")),
        Some(basic("a", "b-secret-marker")),
        Some("Basic".to_owned()),
        Some("Basic !!!".to_owned()),
        Some("Basic bm8tY29sb24=".to_owned()),
        Some(long),
        // {"alg":"none"}.{"sub":"a"}: without a token server, a token is nothing.
        Some("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.".to_owned()),
    ] {
        for path in ["/v2/", APP, "/v2/org/app/tags/list", "/v2/unknown.test/app/manifests/1"] {
            let headers: Vec<_> = wrong.iter().map(|wrong| ("authorization", wrong.as_str())).collect();
            for method in [Method::GET, Method::HEAD] {
                let answer = guarded.client().send(method.clone(), path, &headers).await;
                assert_eq!(answer.status, 401, "{method} {path} {wrong:?}");
                assert_eq!(answer.header("www-authenticate"), "Basic realm=\"roadstead\"");
                assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
                if method == Method::GET {
                    assert_eq!(answer.code(), "UNAUTHORIZED");
                }
            }
        }
    }
    assert!(guarded.registry.requests().is_empty());
    // reqwest would replace one of them.
    let (a, b) = (login("a"), login("b"));
    let text = format!(
        "GET {APP} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {a}\r\nauthorization: {b}\r\n\r\n"
    );
    let answer = crate::support::client::raw(guarded.mirror.address, &text).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "two logins: {answer}");
    for right in [login("a"), login("a").replace("Basic", "basic"), login("b")] {
        assert_eq!(guarded.get(APP, &[("authorization", &right)]).await.status, 200);
        assert_eq!(guarded.get("/v2/", &[("authorization", &right)]).await.status, 200);
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_whatever_else_is_shown() {
    let guarded = Guarded::start(closed).await;
    guarded.publish("org/app");
    let right = login("a");
    for wrong in ["", "node", "node-secret-marke", "node-secret-marker2"] {
        let answer = guarded.get(APP, &[("x-roadstead-key", wrong), ("authorization", &right)]).await;
        assert_eq!(answer.status, 401, "{wrong}");
    }
    let wrong = basic("a", "wrong");
    let answer = guarded.get(APP, &[("X-ROADSTEAD-KEY", "node-secret-marker"), ("authorization", &wrong)]).await;
    assert_eq!(answer.status, 200, "a key counts first: what comes beside it is a pod's pull secret");
    let only_keys = Guarded::start(|files| format!("anonymous = false\n{}", keys(files))).await;
    let answer = only_keys.get("/v2/", &[("authorization", &right)]).await;
    let challenge = "Header realm=\"roadstead\", name=\"x-roadstead-key\"";
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, challenge));
}

#[tokio::test]
async fn t83_nothing_is_challenged_and_nothing_is_believed_where_it_is_not_configured() {
    let registry = Upstream::start().await;
    let app = crate::support::image::image(&[blob_of(1)]);
    registry.publish("org/app", "1", &app);
    let plain = Mirror::of("docker.io", registry.url()).await;
    let open = Guarded::start(htpasswd).await;
    open.publish("org/app");
    let only_keys = Guarded::start(keys).await;
    only_keys.publish("org/app");
    for path in ["/v2/", APP] {
        assert_eq!(plain.client().get(path).await.status, 200);
        assert_eq!(open.get(path, &[]).await.status, 200);
        // Secrets for others: pull secrets of pods.
        for foreign in [basic("robot", "hub-secret"), "Bearer foreign".to_owned(), "Negotiate x".to_owned()] {
            let headers = [("authorization", foreign.as_str())];
            assert_eq!(plain.client().send(Method::GET, path, &headers).await.status, 200, "{foreign}");
            assert_eq!(only_keys.get(path, &headers).await.status, 200, "{foreign}");
        }
    }
    assert_eq!(plain.client().get("/token").await.status, 404);
    assert_eq!(open.get("/token", &[]).await.status, 404);
    assert_eq!(open.get(APP, &[("authorization", &basic("a", "wrong"))]).await.status, 401, "a wrong login is told");
    let sent =
        |registry: &Upstream| registry.requests().iter().any(|request| request.headers.contains_key("authorization"));
    assert!(!sent(&registry) && !sent(&open.registry) && !sent(&only_keys.registry), "nothing goes upstream");
}

fn blob_of(seed: u64) -> crate::support::upstream::Content {
    crate::support::upstream::blob(100, seed)
}

fn logins(guarded: &Guarded, result: &str) -> f64 {
    guarded.mirror.metric(&format!("roadstead_logins_total{{result=\"{result}\"}}"))
}

#[tokio::test]
async fn t81_a_right_password_is_checked_once_and_a_wrong_one_once_in_a_while() {
    let guarded = Guarded::start(closed).await;
    guarded.publish("org/app");
    let (client, right, wrong) = (guarded.client(), login("a"), basic("a", "wrong"));
    for (login, status) in [(&right, 200), (&wrong, 401)] {
        let all = (0..50).map(|_| async { client.send(Method::GET, APP, &[("authorization", login)]).await.status });
        assert!(join_all(all).await.into_iter().all(|got| got == status));
        for _ in 0..10 {
            assert_eq!(client.send(Method::GET, APP, &[("authorization", login)]).await.status, status);
        }
    }
    assert_eq!((logins(&guarded, "accepted"), logins(&guarded, "refused")), (1.0, 1.0));
}

#[tokio::test]
async fn t81_guesses_take_few_checks_at_a_time_and_cost_nobody_else_a_pull() {
    let (registry, files) = (Upstream::start().await, tempfile::tempdir().unwrap());
    super::write_files(files.path());
    // Slow enough for guesses to queue.
    let slow = bcrypt::hash("slow-secret-marker", 11).unwrap();
    let file = files.path().join("htpasswd");
    let text = std::fs::read_to_string(&file).unwrap() + &format!("slow:{slow}\n");
    std::fs::write(&file, text).unwrap();
    let mirror = Mirror::start(super::toml(&registry, &closed(files.path()))).await;
    let guarded = Guarded { registry, mirror, files };
    guarded.publish("org/app");
    let right = login("a");
    assert_eq!(guarded.get(APP, &[("authorization", &right)]).await.status, 200);
    let guesses = (0..60).map(|nth| {
        let (client, guess) = (guarded.client(), basic("slow", &format!("guess-{nth}")));
        async move { client.send(Method::GET, APP, &[("authorization", &guess)]).await }
    });
    let others = (0..20).map(|_| async { guarded.get(APP, &[("authorization", &right)]).await });
    let (guesses, others) = futures_util::future::join(join_all(guesses), join_all(others)).await;
    assert!(others.iter().all(|answer| answer.status == 200), "who is known goes on");
    let busy: Vec<_> = guesses.iter().filter(|answer| answer.status == 503).collect();
    assert!(guesses.iter().all(|answer| matches!(answer.status, 401 | 503)));
    assert!(!busy.is_empty() && busy.iter().all(|answer| answer.header("retry-after") == "1"));
    assert_eq!(logins(&guarded, "busy") + logins(&guarded, "refused"), 60.0);
}

#[tokio::test]
async fn t84_a_name_that_is_not_there_is_told_like_a_wrong_password_and_is_not_logged() {
    let guarded = Guarded::start(closed).await;
    let log = Log::begin();
    let known = guarded.get(APP, &[("authorization", &basic("a", "guess-marker"))]).await;
    let unknown = guarded.get(APP, &[("authorization", &basic("name-marker", "guess-marker"))]).await;
    let key = guarded.get(APP, &[("x-roadstead-key", "key-marker")]).await;
    assert_eq!((known.body, known.status), (unknown.body, unknown.status));
    let metrics = guarded.mirror.metric("roadstead_identity_requests_total{identity=\"\",result=\"unknown\"}");
    assert_eq!((key.status, metrics), (401, 3.0));
    assert!(!log.text().contains("-marker"), "{}", log.text());
    assert_eq!(log.text().matches("a login was refused").count(), 2);
}
