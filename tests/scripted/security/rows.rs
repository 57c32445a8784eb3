//! T120: what made-up names cost in the index (docs/SECURITY-THREATS.md).

use std::time::Duration;

use roadstead::index::Scope;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::{OCI_MANIFEST, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// The bound of an upstream whose own `max_size` is small. Bytes.
const BOUND: u64 = 1024 * 1024;

/// A repository that nobody needs, with a long name.
fn made_up(nth: usize) -> String {
    [(); 4].map(|()| format!("r{nth:05}{}", "x".repeat(220))).join("/")
}

async fn pull(client: &Client, nth: usize) {
    let path = format!("/v2/{}/manifests/t?ns=hostile.test", made_up(nth));
    assert_eq!(client.get(&path).await.status, 200);
}

async fn is_known(mirror: &Mirror, authority: &str, repository: &str) -> bool {
    let (authority, repository) = (authority.parse().unwrap(), repository.parse().unwrap());
    let scope = Scope { domain: 0, authority, repository };
    mirror.inner().cache().index.tag(&scope, &"t".parse().unwrap(), false).await.unwrap().is_some()
}

#[tokio::test]
async fn t120_rows_of_made_up_names_have_a_bound_and_the_least_used_of_their_own_upstream_go() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    honest.publish("library/app", "t", &image(&[blob(10, 1)]));
    let manifest = format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"layers\":[]}}");
    hostile.script(manifests().always().body(manifest).content_type(OCI_MANIFEST));
    let (at, other) = (honest.url(), hostile.url());
    let mirror = Mirror::builder(format!(
        "[upstreams.\"docker.io\"]\nurl = \"{at}\"\n[upstreams.\"hostile.test\"]\nurl = \"{other}\"\nmax_size = \"1MiB\"\n"
    ));
    let mirror = mirror.storage("max_size = \"64MiB\"").start().await;
    let client = mirror.client();
    assert_eq!(client.get("/v2/library/app/manifests/t").await.status, 200);
    for nth in 0..100 {
        pull(&client, nth).await;
    }
    assert!(is_known(&mirror, "hostile.test", &made_up(0)).await);
    mirror.advance(Duration::from_hours(48));
    let row_bytes = || mirror.inner().cache().index.row_bytes("hostile.test");
    for nth in 100..900 {
        pull(&client, nth).await;
        assert!(row_bytes() <= BOUND / 8 * 9, "{}", row_bytes());
    }
    eventually("rows have gone", async || row_bytes() < BOUND).await;
    let tags = mirror.inner().cache().counts().await.unwrap().tags;
    assert!((100..700).contains(&tags), "{tags} of 901");
    for nth in [0, 50, 99] {
        assert!(!is_known(&mirror, "hostile.test", &made_up(nth)).await, "the oldest go first");
    }
    assert!(is_known(&mirror, "docker.io", "library/app").await);
    let quotas = mirror.inner().cache().quotas();
    assert!(quotas.iter().any(|quota| quota.used_bytes >= BOUND / 4), "they count to its own limit: {quotas:?}");
    let mirror = mirror.restart().await;
    let row_bytes = || mirror.inner().cache().index.row_bytes("hostile.test");
    eventually("they are measured", async || row_bytes() > BOUND / 4).await;
    assert!(is_known(&mirror, "docker.io", "library/app").await);
}
