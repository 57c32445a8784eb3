//! A page in a browser on this machine can lead a name of its own to loopback: under such a name nothing is answered.

use std::net::SocketAddr;

use crate::support::client::raw;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn status(address: SocketAddr, path: &str, host: &str) -> u16 {
    let answer = raw(address, &format!("GET {path} HTTP/1.1\r\n{host}connection: close\r\n\r\n")).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{answer}"))
}

async fn mirror(listen: &str) -> (Upstream, Mirror) {
    let upstream = Upstream::start().await;
    upstream.publish("library/app", "1", &image(&[blob(10, 1)]));
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", upstream.url());
    let mirror = Mirror::builder(toml).listen(listen).server("hostnames = [\"mirror.corp\"]").start().await;
    (upstream, mirror)
}

#[tokio::test]
async fn t57_a_listener_on_loopback_answers_its_own_names_and_registries_only() {
    let (_upstream, mirror) = mirror("127.0.0.1:0").await;
    let path = "/v2/library/app/manifests/1";
    for (host, expected) in [
        ("evil.test", 421),
        ("evil.test:5000", 421),
        ("evil.test.", 421),
        ("127.0.0.1.evil.test", 421),
        ("10.0.0.1", 421),
        ("", 421),
        ("localhost:5000", 200),
        ("127.0.0.1:6000", 200),
        ("[::1]:5000", 200),
        ("mirror.corp:5000", 200),
        ("docker.io", 200),
        ("registry-1.docker.io", 200),
        // What the good names have left in the route cache is not given to bad ones.
        ("evil.test", 421),
    ] {
        for path in [path, "/v2/"] {
            assert_eq!(status(mirror.address, path, &format!("host: {host}\r\n")).await, expected, "{path} {host:?}");
        }
    }
    let refused = raw(
        mirror.address,
        &format!("GET {path}?ns=docker.io HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n"),
    )
    .await;
    assert!(!refused.to_lowercase().contains("oci-namespace"), "{refused}");
}

#[tokio::test]
async fn t6_a_request_with_two_hosts_is_refused() {
    let (_upstream, mirror) = mirror("127.0.0.1:0").await;
    let path = "/v2/library/app/manifests/1";
    for second in ["docker.io", "evil.test"] {
        let hosts = format!("host: docker.io\r\nhost: {second}\r\n");
        assert_eq!(status(mirror.address, path, &hosts).await, 400, "{second}");
    }
}

#[tokio::test]
async fn t57_under_the_name_of_a_registry_loopback_answers_for_that_registry_only() {
    let (good, evil) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&good, &evil] {
        upstream.publish("library/app", "1", &image(&[blob(10, 1)]));
    }
    let of = |name: &str, upstream: &Upstream| format!("[upstreams.\"{name}\"]\nurl = \"{}\"\n", upstream.url());
    let toml = of("good.test", &good) + &of("evil.test", &evil);
    let mirror = Mirror::start(toml.clone()).await;
    let path = "/v2/library/app/manifests/1";
    for (host, path, expected) in [
        ("evil.test", path.to_owned(), 200),
        ("evil.test", format!("{path}?ns=evil.test"), 200),
        ("evil.test", format!("{path}?ns=good.test"), 421),
        ("evil.test", format!("{path}?oci-ref-name=good.test/library/app:1"), 421),
        ("localhost:5000", format!("{path}?ns=good.test"), 200),
        ("good.test", format!("{path}?ns=good.test"), 200),
        // Nor from the route cache.
        ("evil.test", format!("{path}?ns=good.test"), 421),
    ] {
        assert_eq!(status(mirror.address, &path, &format!("host: {host}\r\n")).await, expected, "{host} {path}");
    }
    // Where others reach it, `ns` decides.
    let mirror = Mirror::builder(toml).listen("0.0.0.0:0").start().await;
    let address = SocketAddr::from(([127, 0, 0, 1], mirror.address.port()));
    assert_eq!(status(address, &format!("{path}?ns=good.test"), "host: evil.test\r\n").await, 200);
}

#[tokio::test]
async fn a_listener_that_others_reach_answers_every_name() {
    let (_upstream, mirror) = mirror("0.0.0.0:0").await;
    let address = SocketAddr::from(([127, 0, 0, 1], mirror.address.port()));
    assert_eq!(status(address, "/v2/library/app/manifests/1", "host: any.name.test\r\n").await, 200);
}

#[tokio::test]
async fn t57_the_admin_side_answers_its_own_names_only() {
    let (_upstream, mirror) = mirror("127.0.0.1:0").await;
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/status", "/api/v1/pins"] {
        for (host, expected) in [
            ("evil.test", 421),
            ("docker.io", 421),
            ("evil.test.:5001", 421),
            ("localhost", 200),
            ("127.0.0.1:5001", 200),
            ("10.1.2.3:5001", 200),
            ("mirror.corp:5001", 200),
        ] {
            assert_eq!(status(mirror.admin, path, &format!("host: {host}\r\n")).await, expected, "{path} {host}");
        }
    }
}
