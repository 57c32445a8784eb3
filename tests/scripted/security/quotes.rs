//! T44: nobody writes at length into our answers and our log.

use super::{APP, blob_path, hub};
use crate::support::client::raw;
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Room for our own words and for what is quoted.
const LONGEST_MESSAGE: usize = 1500;
const LONGEST_LINE: usize = 4000;

fn assert_short(case: &str, answer: &str, log: &Log) {
    assert!(answer.len() < LONGEST_MESSAGE, "{case}: {} bytes: {}", answer.len(), &answer[..LONGEST_MESSAGE]);
    let longest = log.text().lines().map(str::len).max().unwrap_or_default();
    assert!(longest < LONGEST_LINE, "{case}: a line of {longest} bytes");
}

#[tokio::test]
async fn t44_what_an_upstream_writes_is_cut_where_it_is_quoted() {
    let written = Log::begin();
    let registry = Upstream::start().await;
    let digest = sha256(b"missing");
    let mirror = Mirror::start(hub(registry.url(), "negative_ttl = \"0s\"\nbreaker_window = \"0s\"")).await;
    let long = "x".repeat(3000);
    let longer = "x".repeat(60_000);
    for realm in [
        format!("https://{long}/token"),
        format!("https://{longer}/token"),
        format!("http://{}/token?{longer}", registry.host()),
        longer.clone(),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"{long}\"");
        let step = registry.script(manifests().always().status(401).header("www-authenticate", &challenge));
        let answer = mirror.client().get(APP).await;
        assert_eq!(answer.status, 502);
        assert_short(&realm[..30], &answer.text(), &written);
        step.revoke();
    }
    for location in [
        format!("{longer}://elsewhere.test/"),
        format!("http://{longer}/"),
        format!("http://{}/{longer}", Canary::listen().address()),
        format!("http://user@{longer}/"),
    ] {
        let step = registry.script(blobs().always().redirect(&location));
        let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
        assert_eq!(answer.status, 502);
        assert_short(&location[..30], &answer.text(), &written);
        step.revoke();
    }
}

#[tokio::test]
async fn t44_what_a_client_writes_is_cut_where_it_is_quoted() {
    let written = Log::begin();
    let registry = Upstream::start().await;
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let long = "x".repeat(6000);
    for path in [
        format!("/v2/org/app/manifests/1?ns={long}"),
        format!("/v2/org/app/manifests/1?oci-ref-name={long}"),
        format!("/v2/org/app/manifests/1?oci-ref-name=docker.io/{long}:1"),
        format!("/v2/org/app/manifests/{long}"),
        format!("/v2/org/app/blobs/{long}"),
        format!("/v2/{long}/manifests/1"),
        format!("/v2/{}/manifests/1", long.get(..1000).unwrap()),
        format!("/{long}"),
        format!("/v2/org/app/tags/list?{long}={long}"),
    ] {
        let answer = mirror.client().get(&path).await;
        assert!(answer.status >= 400, "{path}");
        assert_short(&path[..40], &answer.text(), &written);
    }
    let request = format!("{} /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", long.to_uppercase());
    let answer = raw(mirror.address, &request).await;
    assert_short("a method", &answer, &written);
}
