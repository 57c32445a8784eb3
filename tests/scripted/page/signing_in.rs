//! Who sees the page, and who may change something.

use std::time::Duration;

use http::Method;

use super::{Browser, NOWHERE, TOKEN, with_token};
use crate::support::client::Client;
use crate::support::mirror::Mirror;

const FORMS: &str = "method=\"post\"";

#[tokio::test]
async fn on_loopback_without_a_token_everything_is_shown_and_nothing_can_be_changed() {
    let mirror = Mirror::start(NOWHERE).await;
    let browser = Browser::new(&mirror);
    for path in ["/", "/repositories", "/pins", "/jobs"] {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, answer.text().contains(FORMS)), (200, false), "{path}: {}", answer.text());
        assert!(!answer.text().contains("Sign in"), "there is nothing to sign in with");
    }
    for (path, field) in [("/pin", "pattern"), ("/unpin", "pattern"), ("/refresh", "glob"), ("/verify", "rate")] {
        assert_eq!(browser.post(path, &[(field, "docker.io/org/app")]).await.status, 403, "{path}");
    }
    let page = browser.get("/sign-in").await.text();
    assert!(page.contains("admin_token_file") && !page.contains(FORMS), "{page}");
    assert_eq!(browser.post("/sign-in", &[("token", "")]).await.status, 403);
}

#[tokio::test]
async fn t131_a_session_begins_with_the_token_and_ends_in_time_with_another_one_and_by_signing_out() {
    let (mirror, directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    for wrong in ["", "right-toke", "right-token2", "wrong"] {
        let answer = Browser::new(&mirror).post("/sign-in", &[("token", wrong)]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""), "{wrong}");
    }
    let answer = Browser::new(&mirror).post("/sign-in", &[("token", TOKEN), ("next", "/jobs")]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/jobs"));
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && cookie.contains("; Max-Age=28800") && !cookie.contains(TOKEN), "{cookie}");

    let by_tls = [("origin", "https://127.0.0.1"), ("host", "127.0.0.1")];
    let answer = Browser::new(&mirror).post_from("/sign-in", &[("token", TOKEN)], &by_tls).await;
    assert!(answer.header("set-cookie").ends_with("; Secure") && !cookie.contains("Secure"), "{answer:?}");

    let may_change = async |browser: &Browser| browser.get("/pins").await.text().contains("action=\"/pin\"");
    let browser = Browser::signed_in(&mirror).await;
    assert!(may_change(&browser).await);
    assert_eq!(Client::new(mirror.admin).get("/api/v1/backup").await.status, 401);
    let with_cookie = [("cookie", browser.cookie.as_deref().unwrap())];
    let api = Client::new(mirror.admin).send(Method::GET, "/api/v1/backup", &with_cookie).await;
    assert_eq!(api.status, 401, "a cookie opens the page, and not the API");
    mirror.advance(Duration::from_hours(8));
    assert!(!may_change(&browser).await, "it lasts eight hours");

    let browser = Browser::signed_in(&mirror).await;
    std::fs::write(directory.path().join("token"), "another").unwrap();
    assert!(!may_change(&browser).await, "the token is another one");
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();

    let (browser, other) = (Browser::signed_in(&mirror).await, Browser::signed_in(&mirror).await);
    let stranger = Browser::new(&mirror).post("/sign-out", &[]).await;
    assert!(stranger.status == 303 && may_change(&browser).await, "a stranger ends no session");
    let out = other.post("/sign-out", &[]).await;
    assert!(out.status == 303 && out.header("set-cookie").contains("Max-Age=0"), "{:?}", out.headers);
    assert!(!may_change(&browser).await && !may_change(&other).await, "all sessions end");
}

#[tokio::test]
async fn t35_off_loopback_nothing_is_shown_without_the_token() {
    let (mirror, _directory) = with_token(NOWHERE, "0.0.0.0:0").await;
    let stranger = Browser::new(&mirror);
    for path in
        ["/", "/repositories", "/repository?name=docker.io/a", "/image?reference=docker.io/a:1", "/pins", "/jobs"]
    {
        let answer = stranger.get(path).await;
        let encoded: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
        assert_eq!((answer.status, answer.header("location")), (303, &*format!("/sign-in?next={encoded}")));
        assert!(answer.body.is_empty());
    }
    for path in ["/sign-in", "/page.css", "/icon.svg"] {
        assert_eq!(stranger.get(path).await.status, 200, "{path}");
    }
    assert!(!stranger.get("/sign-in").await.text().contains("docker.io"));
    assert_eq!(stranger.post("/pin", &[("pattern", "docker.io/a")]).await.status, 403);
    let browser = Browser::signed_in(&mirror).await;
    assert_eq!(browser.get("/").await.status, 200);
    let bearer = [("authorization", "Bearer right-token")];
    assert_eq!(stranger.client.send(Method::GET, "/", &bearer).await.status, 200);
}

#[tokio::test]
async fn t133_signing_in_leads_to_pages_of_this_server_only() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    for next in ["https://evil.test/", "//evil.test", "/\\evil.test", "/sign-out", "/api/v1/status", "/\r\nx: y"] {
        let answer = Browser::new(&mirror).post("/sign-in", &[("token", TOKEN), ("next", next)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{next}");
    }
}

#[tokio::test]
async fn t132_a_form_of_another_site_is_refused_whatever_cookie_comes_with_it() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let browser = Browser::signed_in(&mirror).await;
    let own = browser.origin.clone();
    let neighbour = format!("http://127.0.0.1:{}", mirror.address.port());
    for (from, allowed) in [
        (&[("origin", own.as_str())][..], true),
        (&[("origin", own.as_str()), ("sec-fetch-site", "same-origin")][..], true),
        (&[("sec-fetch-site", "same-origin")][..], true),
        (&[][..], false),
        (&[("origin", "null")][..], false),
        (&[("origin", "http://evil.test")][..], false),
        // The same site for a cookie: another port of this machine.
        (&[("origin", neighbour.as_str()), ("sec-fetch-site", "same-site")][..], false),
        (&[("origin", own.as_str()), ("sec-fetch-site", "cross-site")][..], false),
        (&[("sec-fetch-site", "none")][..], false),
    ] {
        for (path, fields) in [("/pin", [("pattern", "docker.io/org/app")]), ("/sign-in", [("token", TOKEN)])] {
            let answer = browser.post_from(path, &fields, from).await;
            assert_eq!(answer.status, if allowed { 303 } else { 403 }, "{path} {from:?}: {}", answer.text());
            assert!(allowed || answer.header("set-cookie").is_empty());
        }
        assert_eq!(browser.get("/pins").await.text().contains("docker.io/org/app<"), allowed, "{from:?}");
        browser.post("/unpin", &[("pattern", "docker.io/org/app")]).await;
    }
    let signed_out = browser.post_from("/sign-out", &[], &[("origin", "http://evil.test")]).await;
    assert!(signed_out.status == 403 && browser.get("/pins").await.text().contains("action=\"/pin\""));
}

#[tokio::test]
async fn t132_another_site_may_link_here_and_embed_nothing() {
    let (mirror, _directory) = with_token(NOWHERE, "127.0.0.1:0").await;
    let get = async |headers: &[(&str, &str)]| Client::new(mirror.admin).send(Method::GET, "/", headers).await.status;
    assert_eq!(get(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).await, 200);
    assert_eq!(get(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]).await, 403);
    assert_eq!(get(&[("origin", "http://evil.test"), ("sec-fetch-mode", "cors")]).await, 403);
}
