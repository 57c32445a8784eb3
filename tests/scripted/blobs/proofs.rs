//! Two authorities with the same bytes: the second has to show some of them.

use roadstead::file_blocks::in_blocks;

use super::{mismatches, path_in, quiet};
use crate::support::client::Client;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 5_000_000;
const SHOWN: u64 = 64 * 1024;

/// `first.test` holds a blob, and the mirror has it; `second.test` says what the test lets it say.
struct Two {
    first: Upstream,
    second: Upstream,
    content: Content,
    digest: String,
    mirror: Mirror,
}

impl Two {
    async fn start(size: u64, seed: u64) -> Self {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let content = blob(size, seed);
        let digest = first.blob("corp/secret", &content);
        let upstream =
            |name: &str, upstream: &Upstream| format!("[upstreams.\"{name}\"]\nurl = \"{}\"\n", upstream.url());
        let toml = upstream("docker.io", &first) + &upstream("second.test", &second);
        let mirror = Mirror::start(toml).await;
        let two = Self { first, second, content, digest, mirror };
        let path = path_in("corp/secret", &two.digest);
        assert!(two.client().get(&path).await.body == two.content.to_bytes());
        quiet(&two.mirror).await;
        two.first.forget_requests();
        two
    }

    fn client(&self) -> Client {
        self.mirror.client()
    }

    fn path(&self) -> String {
        format!("{}?ns=second.test", path_in("corp/secret", &self.digest))
    }
}

#[tokio::test]
async fn another_authority_shows_a_random_range_of_the_bytes() {
    let two = Two::start(SIZE, 1).await;
    two.second.blob("corp/secret", &two.content);
    two.second.blob("corp/again", &two.content);
    assert!(two.client().get(&two.path()).await.body == two.content.to_bytes());
    let again = format!("{}?ns=second.test", path_in("corp/again", &two.digest));
    assert!(two.client().get(&again).await.body == two.content.to_bytes());
    let shown = two.second.requests_of(&blobs().get());
    assert_eq!(shown.len(), 2, "the first authority's bytes are still not this one's");
    assert!(shown.iter().all(|request| request.sent() == SHOWN), "{shown:?}");
    assert_ne!(shown[0].range, shown[1].range, "a range that can be foreseen is no proof");
    assert!(two.first.requests().is_empty());
    assert_eq!(two.client().get(&two.path()).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn a_small_blob_is_shown_whole() {
    let two = Two::start(SHOWN, 2).await;
    two.second.blob("corp/secret", &two.content);
    assert_eq!(two.client().get(&two.path()).await.status, 200);
    let shown = two.second.requests_of(&blobs().get());
    assert_eq!((shown.len(), shown[0].sent()), (1, SHOWN));
}

#[tokio::test]
async fn t9_an_authority_that_says_yes_to_every_head_gets_nothing() {
    for size in [1000, SIZE] {
        let two = Two::start(size, 3).await;
        two.second.script(blobs().head().always().head_says_yes(size));
        for _ in 0..2 {
            let answer = two.client().get(&two.path()).await;
            assert_eq!((answer.status, answer.code()), (404, "BLOB_UNKNOWN".to_owned()));
        }
        let range = two.client().range(&two.path(), "0-99").await;
        assert_eq!(range.status, 404);
    }
}

#[tokio::test]
async fn t9_an_authority_that_shows_other_bytes_gets_nothing() {
    for size in [1000, SIZE] {
        let two = Two::start(size, 4).await;
        two.second.blob_as("corp/secret", &two.digest, blob(size, 5));
        let answer = two.client().get(&two.path()).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(two.mirror.metric(r#"roadstead_digest_mismatches_total{authority="second.test"}"#).to_string(), "1");
        assert_eq!(mismatches(&two.mirror), 0);
        assert_eq!(two.client().get(&two.path()).await.status, 502, "no grant came of it");
    }
}

/// It has the bytes, and a few more: not the same blob.
#[tokio::test]
async fn t9_an_authority_whose_blob_is_longer_gets_nothing() {
    let two = Two::start(SIZE, 6).await;
    two.second.blob_as("corp/secret", &two.digest, two.content.with_size(SIZE + 1));
    assert_eq!(two.client().get(&two.path()).await.status, 502);
    assert_eq!(two.second.requests_of(&blobs().get()).len(), 0, "it does not learn how large the blob is");
}

/// A range of it would tell that another authority's copy is held, and about how large that is.
#[tokio::test]
async fn t59_an_authority_that_does_not_have_a_blob_is_shown_no_range_of_it() {
    let two = Two::start(SIZE, 10).await;
    assert_eq!(two.client().get(&two.path()).await.status, 404);
    for request in two.second.requests_of(&blobs()) {
        assert!(request.header("range").is_none_or(|range| range == "bytes=0-0"), "{}", request.line());
    }
}

#[tokio::test]
async fn an_authority_without_ranges_proves_itself_by_the_whole_blob() {
    let two = Two::start(SIZE, 7).await;
    two.second.blob("corp/secret", &two.content);
    two.second.script(blobs().get().always().ignore_range());
    assert!(two.client().get(&two.path()).await.body == two.content.to_bytes());
    let running = r#"roadstead_fills_running{authority="second.test"}"#;
    super::eventually("its fill has ended", async || super::counted(&two.mirror, running) == 0).await;
    assert_eq!(two.client().get(&two.path()).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn t18_stored_bytes_that_have_rotted_are_found_out_and_fetched_again() {
    let two = Two::start(1000, 8).await;
    two.second.blob("corp/secret", &two.content);
    let stored = super::stored_files(&two.mirror);
    let mut bytes = std::fs::read(&stored[0]).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&stored[0], bytes).unwrap();
    let answer = two.client().get(&two.path()).await;
    assert!(answer.body == two.content.to_bytes());
    assert_eq!(two.mirror.metric(r#"roadstead_digest_mismatches_total{authority="second.test"}"#).to_string(), "0");
    quiet(&two.mirror).await;
    assert!(two.client().get(&path_in("corp/secret", &two.digest)).await.body == two.content.to_bytes());
}

#[tokio::test]
async fn two_cold_authorities_fill_for_themselves() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let content = blob(SIZE, 9);
    let digest = first.blob("corp/app", &content);
    second.blob("corp/app", &content);
    let gate = Gate::closed();
    for upstream in [&first, &second] {
        upstream.script(blobs().get().once().stall_after(1000, &gate));
    }
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[upstreams.\"second.test\"]\nurl = \"{}\"\n",
        first.url(),
        second.url()
    );
    let mirror = Mirror::start(toml).await;
    let paths = [path_in("corp/app", &digest), format!("{}?ns=second.test", path_in("corp/app", &digest))];
    let pulls = paths.map(|path| {
        let client = mirror.client();
        tokio::spawn(async move { client.get(&path).await.body })
    });
    gate.arrived_times(2).await;
    gate.open();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), content.to_bytes());
    }
    super::eventually("one copy is counted", async || {
        mirror.metric("roadstead_stored_bytes").to_string() == in_blocks(SIZE).to_string()
            && super::partial_files(&mirror).is_empty()
    })
    .await;
    assert_eq!(super::stored_files(&mirror).len(), 1);
}
