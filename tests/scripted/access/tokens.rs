//! Our own token server, as clients of the distribution spec use it.

use std::time::Duration;

use base64::Engine as _;
use http::Method;

use super::{Guarded, basic, both, htpasswd, login, rule};
use crate::support::client::Answer;

const APP: &str = "/v2/org/app/manifests/1";

fn closed(files: &std::path::Path) -> String {
    format!("anonymous = false\ntoken_server = true\n{}", both(files))
}

/// The realm of a Bearer challenge, as a path of the mirror.
fn realm(guarded: &Guarded, challenge: &str) -> String {
    let realm = challenge.strip_prefix("Bearer realm=\"").unwrap_or_else(|| panic!("{challenge}"));
    let (realm, _) = realm.split_once('"').unwrap();
    let own = format!("http://{}", guarded.mirror.address);
    realm.strip_prefix(&own).unwrap_or_else(|| panic!("{realm}")).to_owned()
}

async fn token(guarded: &Guarded, headers: &[(&str, &str)]) -> Result<String, Answer> {
    let path = "/token?service=roadstead&scope=repository%3Aorg%2Fapp%3Apull&account=a";
    let answer = guarded.get(path, headers).await;
    if answer.status != 200 {
        return Err(answer);
    }
    let json = answer.json();
    assert_eq!((&json["token"], &json["expires_in"]), (&json["access_token"], &serde_json::json!(300)));
    assert!(json["issued_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(answer.header("cache-control"), "no-store");
    Ok(json["token"].as_str().unwrap().to_owned())
}

async fn with(guarded: &Guarded, path: &str, token: &str) -> Answer {
    guarded.get(path, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn a_login_gives_a_token_and_the_token_reads() {
    let guarded = Guarded::start(closed).await;
    guarded.publish("org/app");
    let ping = guarded.get("/v2/", &[]).await;
    assert_eq!((ping.status, ping.code().as_str()), (401, "UNAUTHORIZED"));
    let challenge = ping.header("www-authenticate").to_owned();
    assert_eq!(realm(&guarded, &challenge), "/token");
    assert!(challenge.ends_with(",service=\"roadstead\""), "{challenge}");
    assert_eq!(
        ping.headers.get_all("www-authenticate").iter().count(),
        1,
        "docker sends no token where Basic is offered"
    );
    let direct = guarded.get(APP, &[]).await;
    assert_eq!(direct.status, 401);
    assert!(direct.header("www-authenticate").ends_with(",scope=\"repository:org/app:pull\""));
    let token = token(&guarded, &[("authorization", &login("a"))]).await.unwrap();
    for path in ["/v2/", APP, "/v2/org/app/tags/list"] {
        assert_eq!(with(&guarded, path, &token).await.status, 200, "{path}");
    }
    // Whoever would rather do without goes on by Basic.
    assert_eq!(guarded.get(APP, &[("authorization", &login("a"))]).await.status, 200);
    guarded.mirror.advance(Duration::from_mins(5));
    let expired = with(&guarded, APP, &token).await;
    assert_eq!(expired.status, 401);
    assert!(expired.header("www-authenticate").ends_with(",error=\"invalid_token\""));
}

#[tokio::test]
async fn t82_a_token_that_is_not_ours_is_refused() {
    let guarded = Guarded::start(closed).await;
    let other = Guarded::start(closed).await;
    guarded.publish("org/app");
    let own = token(&guarded, &[("authorization", &login("a"))]).await.unwrap();
    let foreign = token(&other, &[("authorization", &login("a"))]).await.unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = engine.decode(&own).unwrap();
    bytes[8] = b'b';
    let json = |text: &str| engine.encode(text);
    let none = format!("{}.{}.", json("{\"alg\":\"none\"}"), json("{\"sub\":\"a\",\"name\":\"a\"}"));
    let hs256 =
        format!("{}.{}.{}", json("{\"alg\":\"HS256\",\"kid\":\"x\"}"), json("{\"sub\":\"a\"}"), json("signature"));
    for bad in [foreign, engine.encode(bytes), none, hs256, String::new(), "A".repeat(8000)] {
        let answer = with(&guarded, APP, &bad).await;
        assert_eq!(answer.status, 401, "{bad}");
    }
    assert_eq!(with(&guarded, APP, &own).await.status, 200);
    assert!(guarded.registry.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_wrong_password_gets_no_token() {
    let guarded = Guarded::start(closed).await;
    for wrong in [Some(basic("a", "wrong")), Some(basic("nobody", "x")), None] {
        let headers: Vec<_> = wrong.iter().map(|wrong| ("authorization", wrong.as_str())).collect();
        let answer = token(&guarded, &headers).await.unwrap_err();
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Basic realm=\"roadstead\""), "{wrong:?}");
    }
    // containerd POSTs first, and GETs after a 405.
    let posted = guarded.client().send(Method::POST, "/token", &[("authorization", &login("a"))]).await;
    assert_eq!(posted.status, 405);
}

#[tokio::test]
async fn t83_clients_that_sign_in_and_clients_that_do_not_share_one_mirror() {
    let guarded = Guarded::start(|files| {
        format!("token_server = true\n{}", htpasswd(files))
            + &rule("[\"user:a\"]", "[\"docker.io/org/*\"]", true)
            + &rule("[\"anonymous\"]", "[\"docker.io/library/*\"]", true)
    })
    .await;
    guarded.publish("org/app");
    guarded.publish("library/app");
    assert_eq!(guarded.get("/v2/", &[]).await.status, 401, "so that docker login asks for a token");
    assert_eq!(guarded.get("/v2/app/manifests/1", &[]).await.status, 200);
    let refused = guarded.get(APP, &[]).await;
    assert_eq!(refused.status, 401, "so that containerd signs in");
    let nobody = token(&guarded, &[]).await.unwrap();
    assert_eq!(with(&guarded, "/v2/", &nobody).await.status, 200);
    assert_eq!(with(&guarded, "/v2/app/manifests/1", &nobody).await.status, 200);
    assert_eq!(with(&guarded, APP, &nobody).await.status, 403, "it has signed in, as nobody");
    let user = token(&guarded, &[("authorization", &login("a"))]).await.unwrap();
    assert_eq!(with(&guarded, APP, &user).await.status, 200);
    // A realm is made of the client's own words, so it leads nobody else astray; what is no host is not repeated.
    for (host, leads) in [("localhost:5000", "http://localhost:5000/token"), ("127.0.0.1", "http://127.0.0.1/token")] {
        let answer = guarded.get("/v2/", &[("host", host)]).await;
        assert!(answer.header("www-authenticate").contains(leads), "{}", answer.header("www-authenticate"));
    }
}

#[tokio::test]
async fn the_token_server_is_behind_the_mount() {
    let (registry, files) = (crate::support::upstream::Upstream::start().await, tempfile::tempdir().unwrap());
    super::write_files(files.path());
    let builder = crate::support::mirror::Mirror::builder(super::toml(&registry, &closed(files.path())));
    let mirror = builder.server("mount = \"/p\"").start().await;
    let guarded = Guarded { registry, mirror, files };
    let challenge = guarded.get("/p/v2/", &[]).await;
    assert_eq!(realm(&guarded, challenge.header("www-authenticate")), "/p/token");
    assert_eq!(guarded.get("/p/token", &[("authorization", &login("a"))]).await.status, 200);
    assert_eq!(guarded.get("/token", &[("authorization", &login("a"))]).await.status, 404);
}
