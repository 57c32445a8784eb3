//! Answers that are labelled or framed in an odd way, and are right: the digest decides.

use super::{APP, blob_path, hub, publish_app};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn said(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[tokio::test]
async fn a_label_of_a_coding_is_believed_less_than_the_digest() {
    for label in ["", "aws-chunked", "none", "binary", "utf-8", "gzip", "identity", "zstd, gzip"] {
        let upstream = Upstream::start().await;
        let app = publish_app(&upstream);
        upstream.script(every_request().always().header("content-encoding", label));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let by_digest = format!("/v2/library/app/manifests/{}", app.digest);
        let layer = blob_path("library/app", &app.layers()[0].digest);
        for path in [&by_digest, APP, &layer] {
            let answer = mirror.client().get(path).await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{label:?} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_compressed_though_nobody_asked_for_it_is_refused() {
    let upstream = Upstream::start().await;
    let app = publish_app(&upstream);
    upstream.script(every_request().always().gzip());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let by_tag = mirror.client().get(APP).await;
    assert_eq!(by_tag.status, 502);
    assert!(by_tag.text().contains("compressed"), "{}", by_tag.text());
    assert_eq!(mirror.client().get(&format!("/v2/library/app/manifests/{}", app.digest)).await.status, 502);
}

#[tokio::test]
async fn a_head_that_gives_a_blob_the_size_of_nothing_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let some = upstream.blob("org/app", blob(200_000, 1));
    let nothing = upstream.blob("org/app", "");
    upstream.script(blobs().head().always().status(200).header("content-length", "0"));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for (digest, length) in [(&some, "200000"), (&nothing, "0")] {
        let head = mirror.client().head(&blob_path("org/app", digest)).await;
        assert_eq!((head.status, head.header("content-length")), (200, length));
    }
}

#[tokio::test]
async fn a_content_length_beside_chunks_does_not_count() {
    let upstream = Upstream::start().await;
    let content = blob(100_000, 1);
    let digest = upstream.blob("org/app", &content);
    let answer = said("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", &chunked(&content.to_bytes()));
    upstream.script(blobs().get().unranged().once().says(answer));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, digest));
}

#[tokio::test]
async fn a_head_that_other_clients_read_is_read() {
    let many = "X-Cache: MISS\r\n".repeat(200);
    for (name, lines) in [
        ("a folded line", "X-Folded: one\r\n two\r\n"),
        ("a space before the colon", "X-Spaced : one\r\n"),
        ("a line that is no header", "this is no header\r\n"),
        ("many lines", &many),
    ] {
        let upstream = Upstream::start().await;
        let content = blob(1000, 1);
        let digest = upstream.blob("org/app", &content);
        let head = format!("{lines}Content-Length: 1000\r\n");
        upstream.script(blobs().get().once().says(said(&head, &content.to_bytes())));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let answer = mirror.client().get(&blob_path("org/app", &digest)).await;
        assert_eq!((answer.status, sha256(&answer.body)), (200, digest), "{name}: {}", answer.text());
    }
}

/// Without a length, a body ends with its connection; many servers leave out the notice of TLS that it ends.
#[tokio::test]
async fn t46_a_body_that_ends_with_its_tls_connection_is_whole_if_its_digest_says_so() {
    let ca = TestCa::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let upstream = Upstream::builder().tls(&ca).http1_only().start().await;
    let app = publish_app(&upstream);
    let (whole, cut) = (blob(90_000, 2), blob(90_000, 3));
    let digests = [&whole, &cut].map(|content| upstream.blob("library/app", content));
    let mirror = Mirror::start(hub(upstream.url(), &format!("ca = \"{}\"", file.display()))).await;
    upstream.script(manifests().get().once().says(said("", &app.manifest)));
    assert_eq!(mirror.client().get(APP).await.body, app.manifest);
    upstream.script(blobs().get().reference(&digests[0]).once().says(said("", &whole.to_bytes())));
    let answer = mirror.client().get(&blob_path("library/app", &digests[0])).await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, digests[0].clone()));

    let half = cut.slice(0, 45_000);
    upstream.script(blobs().get().reference(&digests[1]).always().says(said("", &half)));
    let answer = mirror.client().try_get(&blob_path("library/app", &digests[1])).await;
    assert!(answer.is_err() || answer.unwrap().status >= 500, "half of a blob is none");
    upstream.script(manifests().get().always().says(said("", &app.manifest[..app.manifest.len() / 2])));
    assert_eq!(mirror.client().get("/v2/library/app/manifests/v2").await.status, 502, "nor is half of a manifest");
}
