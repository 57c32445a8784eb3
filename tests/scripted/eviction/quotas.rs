//! `max_size` of one upstream.

use super::*;

#[tokio::test]
async fn a_quota_of_one_upstream_leaves_the_others_alone() {
    let (small, large) = (Upstream::start().await, Upstream::start().await);
    let own = mebibytes(&small, 0..8);
    let others = mebibytes(&large, 100..108);
    let toml = upstream_named("docker.io", &small, "max_size = \"3MiB\"") + &upstream_named("other.test", &large, "");
    let mirror = Mirror::builder(toml).start().await;
    for digest in &others {
        let path = format!("/v2/other.test/{APP}/blobs/{digest}");
        assert_eq!(mirror.client().get(&path).await.status, 200);
    }
    mirror.advance(Duration::from_hours(1));
    pull_all(&mirror, &own).await;
    assert_eq!(kept(&mirror, &others).len(), 8);
    assert!(kept(&mirror, &own).len() <= 3 && has_file(&mirror, &own[7]), "{:?}", kept(&mirror, &own));
    assert!(evicted(&mirror, "quota") >= 5 && evicted(&mirror, "space") == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_one_upstream_is_never_exceeded() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..40);
    let mirror = Mirror::start(upstream_named("docker.io", &upstream, "max_size = \"8MiB\"")).await;
    let pulls = (0..10).map(|client| {
        let (http, digests) = (mirror.client(), digests.clone());
        tokio::spawn(async move {
            for digest in digests.iter().skip(client * 4).take(4) {
                assert_eq!(sha256(&http.get(&path_of(digest)).await.body), *digest);
            }
        })
    });
    let pulls: Vec<_> = pulls.collect();
    let mut most = 0;
    while pulls.iter().any(|pull| !pull.is_finished()) {
        most = most.max(bytes_on_disk(&mirror.storage()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for pull in pulls {
        pull.await.unwrap();
    }
    assert!(most > MIB && most <= 8 * MIB, "{most}");
}
