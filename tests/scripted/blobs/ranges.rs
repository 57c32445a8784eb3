//! Range and conditions, on a hit as on a miss.

use http::Method;

use super::{path_of, quiet};
use crate::support::client::Answer;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

pub(super) const SIZE: u64 = 200_000;

/// The same request cold and warm, each to a mirror of its own, so that cold is cold.
pub(super) async fn cold_and_warm(headers: &[(&str, &str)], seed: u64) -> (Content, String, [Answer; 2]) {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, seed);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let cold = client.send(Method::GET, &path_of(&digest), headers).await;
    quiet(&mirror).await;
    client.get(&path_of(&digest)).await;
    quiet(&mirror).await;
    let warm = client.send(Method::GET, &path_of(&digest), headers).await;
    (content, digest, [cold, warm])
}

#[tokio::test]
async fn ranges_are_answered_cold_as_warm() {
    for (range, first, end) in [("500-1499", 500, 1500), ("199990-", 199_990, SIZE), ("-7", SIZE - 7, SIZE)] {
        let (content, _, answers) = cold_and_warm(&[("range", &format!("bytes={range}"))], 1).await;
        for answer in answers {
            let content_range = format!("bytes {first}-{}/{SIZE}", end - 1);
            assert_eq!((answer.status, answer.header("content-range")), (206, &*content_range), "{range}");
            assert!(answer.body == content.slice(first, end), "{range}");
        }
    }
}

#[tokio::test]
async fn a_range_outside_the_blob_is_a_416_with_its_size() {
    for range in ["200000-", "500-0", "-0", "300000-400000"] {
        let (_, _, answers) = cold_and_warm(&[("range", &format!("bytes={range}"))], 2).await;
        for answer in answers {
            assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */200000"), "{range}");
        }
    }
}

#[tokio::test]
async fn an_unparsable_range_is_ignored() {
    for range in ["bytes=a-b", "lines=1-2", "bytes=5", "bytes=1-2-3"] {
        let (content, _, answers) = cold_and_warm(&[("range", range)], 4).await;
        for answer in answers {
            assert_eq!((answer.status, answer.body), (200, content.to_bytes()), "{range}");
        }
    }
}

#[tokio::test]
async fn if_range_counts_only_for_the_same_content() {
    let digest = blob(SIZE, 5).sha256();
    for (condition, status) in
        [(format!("\"{digest}\""), 206), ("\"other\"".to_owned(), 200), (format!("W/\"{digest}\""), 200)]
    {
        let (_, _, answers) = cold_and_warm(&[("range", "bytes=0-9"), ("if-range", &condition)], 5).await;
        assert_eq!(answers.map(|answer| answer.status), [status, status], "{condition}");
    }
}

#[tokio::test]
async fn a_304_is_given_only_where_a_200_would_be() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 6));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    let etag = format!("\"{digest}\"");
    let mine = client.send(Method::GET, &path_of(&digest), &[("if-none-match", &etag)]).await;
    assert_eq!((mine.status, mine.body.len(), mine.header("etag")), (304, 0, &*etag));
    let path = super::path_in("library/private", &digest);
    let theirs = client.send(Method::GET, &path, &[("if-none-match", &etag)]).await;
    assert_eq!(theirs.status, 404, "a digest that is known is not a right to know that it is there");
}

#[tokio::test]
async fn t21_nothing_is_compressed_for_a_client_that_would_take_it() {
    let upstream = Upstream::start().await;
    let content: Content = "a".repeat(100_000).into();
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for _ in 0..2 {
        let answer = mirror.client().send(Method::GET, &path_of(&digest), &[("accept-encoding", "gzip, br")]).await;
        assert_eq!((answer.header("content-encoding"), &answer.body), ("", &content.to_bytes()));
    }
    for request in upstream.requests() {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}
