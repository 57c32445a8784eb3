//! T29: what a client may choose freely costs nobody else anything that lasts.

use super::hub;
use super::secrets::Secrets;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn t12_names_that_a_client_makes_up_lock_nobody_out_where_the_login_works() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    upstream.publish("team/app", "1", &app);
    upstream.publish("closed/app", "1", &app);
    upstream.basic_auth(BasicAuth::new().user_of("robot", "right", &["team/"]));
    let settings = format!("{}tag_ttl = \"0s\"\n", secrets.login("robot", "right"));
    let mirror = Mirror::start(hub(upstream.url(), &settings)).await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/team/app/manifests/1").await.status, 200);
    for n in 0..20 {
        assert_ne!(client.get(&format!("/v2/made/up{n}/manifests/1")).await.status, 200);
    }
    for _ in 0..2 {
        let answer = client.get("/v2/team/app/manifests/1").await;
        assert_eq!((answer.status, answer.header("warning")), (200, ""), "{}", answer.text());
    }
}

#[tokio::test]
async fn t12_a_held_tag_is_served_stale_while_no_login_is_tried() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    for repository in ["team/app", "team/two"] {
        upstream.publish(repository, "1", &image(&[blob(10, 1)]));
    }
    upstream.basic_auth(BasicAuth::new().user("robot", "old"));
    let settings = format!("{}tag_ttl = \"0s\"\n", secrets.login("robot", "old"));
    let mirror = Mirror::start(hub(upstream.url(), &settings)).await;
    let client = mirror.client();
    for repository in ["team/app", "team/two"] {
        mirror.pull_whole(repository, "1").await;
    }
    upstream.basic_auth(BasicAuth::new().user("robot", "new"));
    for repository in ["team/app", "team/two"] {
        let held = client.get(&format!("/v2/{repository}/manifests/1")).await;
        assert_eq!((held.status, held.header("warning").is_empty()), (200, false), "{}", held.text());
        if repository == "team/app" {
            upstream.forget_requests();
        }
    }
    assert!(upstream.requests().is_empty(), "nobody was asked with the refused password");
}

#[tokio::test]
async fn t10_what_a_client_says_in_via_goes_up_within_limits() {
    let upstream = Upstream::start().await;
    upstream.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let long = vec!["1.1 hop-that-is-long-enough-to-matter-0123456789"; 300].join(", ");
    let answer = mirror.client().send(http::Method::GET, "/v2/org/app/manifests/1", &[("via", &long)]).await;
    assert_eq!(answer.status, 200);
    let sent = upstream.requests()[0].header("via").unwrap().len();
    assert!(sent < 2048, "{sent} bytes of Via went up");
}

#[tokio::test]
async fn t29_lists_that_clients_make_up_do_not_pile_up() {
    let upstream = Upstream::start().await;
    upstream.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/org/app/tags/list").await.status, 200);
    for n in 0..300 {
        assert_eq!(client.get(&format!("/v2/org/app/tags/list?next_page={n}")).await.status, 200);
    }
    upstream.forget_requests();
    let first = client.get("/v2/org/app/tags/list").await;
    assert_eq!(first.header("cache-status"), "roadstead; hit", "the list that counts is kept");
    let again = (0..300).map(|n| format!("/v2/org/app/tags/list?next_page={n}"));
    let mut asked = 0;
    for path in again {
        asked += usize::from(client.get(&path).await.header("cache-status") != "roadstead; hit");
    }
    assert!(asked >= 50, "only {asked} of 300 were forgotten");
}
