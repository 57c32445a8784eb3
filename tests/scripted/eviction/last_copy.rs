//! A blob that no upstream can give again stays.

use super::*;

const SMALL: &str = "max_size = \"4MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";

#[tokio::test]
async fn what_came_from_an_upstream_that_is_offline_or_gone_is_never_evicted() {
    for later in ["offline", "gone"] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let old = mebibytes(&first, 0..2);
        let new = mebibytes(&second, 10..16);
        let mirror = bounded(&first, SMALL).start().await;
        pull_all(&mirror, &old).await;
        let stopped = mirror.stop().await;
        let toml = upstream_named("new.test", &second, "");
        let toml = match later {
            "offline" => toml + &upstream_named("docker.io", &first, "offline = true"),
            _ => toml,
        };
        let mirror = stopped.start_in(SMALL, toml).await;
        for digest in &new {
            let path = format!("/v2/new.test/{APP}/blobs/{digest}");
            assert_eq!(sha256(&mirror.client().get(&path).await.body), *digest);
            mirror.advance(Duration::from_mins(10));
        }
        assert_eq!(kept(&mirror, &old), [0, 1], "{later}");
        assert!(kept(&mirror, &new).len() <= 2, "{later}");
    }
}

/// After the index and the facts beside the blobs were lost, nobody knows whose they were, until a registry shows that it has them.
#[tokio::test]
async fn what_no_registry_is_known_to_have_stays_until_one_shows_it() {
    let upstream = Upstream::start().await;
    let digests = mebibytes(&upstream, 0..8);
    let mirror = bounded(&upstream, SMALL).start().await;
    pull_all(&mirror, &digests[..2]).await;
    let stopped = mirror.stop().await;
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    std::fs::remove_dir_all(stopped.storage().join("facts")).unwrap();
    let mirror = stopped.start().await;
    assert_eq!(mirror.client().get(&path_of(&digests[0])).await.status, 200);
    mirror.advance(Duration::from_hours(1));
    pull_all(&mirror, &digests[2..]).await;
    assert!(has_file(&mirror, &digests[1]) && !has_file(&mirror, &digests[0]), "{:?}", kept(&mirror, &digests));
}
