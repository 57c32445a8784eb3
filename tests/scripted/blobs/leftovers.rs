//! The next start repairs what a crash left between any two steps of a commit.

use std::path::{Path, PathBuf};

use roadstead::file_blocks::in_blocks;

use super::{eventually, one, partial_files, path_in, path_of, quiet};
use crate::support::mirror::{Mirror, Stopped, files_below};
use crate::support::upstream::*;

const SIZE: u64 = 300_000;

/// A storage with nothing in it but an index.
async fn empty(toml: &str) -> Stopped {
    Mirror::start(toml).await.stop().await
}

fn blob_path(storage: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    storage.join("blobs").join(algorithm).join(&hex[..2]).join(hex)
}

fn partial_path(storage: &Path, authority: &str, digest: &str) -> PathBuf {
    storage.join("partial").join(authority).join(digest.replace(':', "-"))
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn sidecar(synced: u64) -> String {
    format!("{{\"size_bytes\":{SIZE},\"synced_bytes\":{synced}}}")
}

#[tokio::test]
async fn linked_but_not_recorded() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let stopped = empty(&one(&upstream, "")).await;
    let (stored, partial) =
        (blob_path(&stopped.storage(), &digest), partial_path(&stopped.storage(), "docker.io", &digest));
    write(&partial, content.to_bytes());
    write(&partial.with_extension("json"), sidecar(SIZE));
    std::fs::create_dir_all(stored.parent().unwrap()).unwrap();
    std::fs::hard_link(&partial, &stored).unwrap();
    let mirror = stopped.start().await;
    assert_eq!(partial_files(&mirror), Vec::<PathBuf>::new());
    assert_eq!(mirror.metric("roadstead_stored_bytes").to_string(), in_blocks(SIZE).to_string());
    assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes());
    assert_eq!((upstream.gets_of(&digest), upstream.heads_of(&digest)), (0, 1), "its origin is known by its place");
}

#[tokio::test]
async fn recorded_and_the_partial_name_still_there() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 2));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(&path_of(&digest)).await;
    quiet(&mirror).await;
    let stopped = mirror.stop().await;
    let partial = partial_path(&stopped.storage(), "docker.io", &digest);
    std::fs::hard_link(blob_path(&stopped.storage(), &digest), &partial).unwrap();
    let mirror = stopped.start().await;
    assert!(!partial.exists());
    upstream.stop().await;
    assert_eq!(mirror.client().get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn a_row_without_a_file_is_a_miss() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(&path_of(&digest)).await;
    quiet(&mirror).await;
    let stopped = mirror.stop().await;
    std::fs::remove_file(blob_path(&stopped.storage(), &digest)).unwrap();
    let mirror = stopped.start().await;
    assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes());
    assert_eq!(upstream.gets_of(&digest), 2);
    quiet(&mirror).await;
    eventually("it is counted once", async || {
        mirror.metric("roadstead_stored_bytes").to_string() == in_blocks(SIZE).to_string()
    })
    .await;
}

#[tokio::test]
async fn t18_a_file_that_lost_its_end_is_dropped_and_fetched_again() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 4);
    let digest = upstream.blob("library/app", &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    client.get(&path_of(&digest)).await;
    quiet(&mirror).await;
    let stored = std::fs::File::options().write(true).open(blob_path(&mirror.storage(), &digest)).unwrap();
    stored.set_len(SIZE - 1).unwrap();
    let answer = client.get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    quiet(&mirror).await;
    assert_eq!(client.get(&path_of(&digest)).await.header("cache-status"), "roadstead; hit");
}

#[tokio::test]
async fn t31_what_is_of_no_use_is_removed_and_what_is_unknown_stops_nothing() {
    let upstream = Upstream::start().await;
    let digests: Vec<_> = (0..4).map(|seed| upstream.blob("library/app", blob(SIZE, 10 + seed))).collect();
    let stopped = empty(&one(&upstream, "")).await;
    let storage = stopped.storage();
    let partial = |nth: usize| partial_path(&storage, "docker.io", &digests[nth]);
    write(&partial(0), "a partial file without a sidecar");
    write(&partial(1).with_extension("json"), sidecar(100));
    write(&partial(2), "a sidecar that cannot be read");
    write(&partial(2).with_extension("json"), "{");
    write(&partial(3), "a sidecar that promises more than the blob has");
    write(&partial(3).with_extension("json"), sidecar(SIZE + 1));
    write(&partial(3).with_extension("tmp"), sidecar(5));
    write(&storage.join("partial/docker.io/sha256-nonsense"), "?");
    write(&storage.join("partial/docker.io/sha256-nonsense.link"), "?");
    write(&storage.join("partial/not a registry/a/directory"), "?");
    write(&storage.join("partial/docker.io/a directory/file"), "?");
    write(&storage.join("partial/stray file"), "?");
    write(&storage.join("blobs/sha256/zz/stray file"), "?");
    let mirror = stopped.start().await;
    assert_eq!(files_below(&storage.join("partial/docker.io")), [storage.join("partial/docker.io/a directory/file")]);
    for digest in &digests {
        assert_eq!(sha256(&mirror.client().get(&path_of(digest)).await.body), *digest);
    }
    let from_zero = upstream.requests_of(&blobs().get().ranged());
    assert!(from_zero.is_empty(), "{from_zero:?}");
}

#[tokio::test]
async fn a_sidecar_that_promises_more_than_the_file_has_is_not_believed() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 5);
    let digest = upstream.blob("library/app", &content);
    let stopped = empty(&one(&upstream, "")).await;
    let partial = partial_path(&stopped.storage(), "docker.io", &digest);
    write(&partial, content.slice(0, 5000));
    write(&partial.with_extension("json"), sidecar(100_000));
    let mirror = stopped.start().await;
    assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes());
    let starts: Vec<_> = upstream.requests_of(&blobs().get()).iter().map(Recorded::range_start).collect();
    assert_eq!(starts, [Some(5000)]);
}

/// Its size was never told; what comes now is smaller than what is there, and says so, or just ends.
#[tokio::test]
async fn what_is_left_of_a_larger_blob_is_thrown_away() {
    let smaller: [fn(Step) -> Step; 2] = [|step| step, Step::chunked];
    for (nth, smaller) in smaller.into_iter().enumerate() {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 6);
        let digest = upstream.blob("library/app", &content);
        upstream.refuse_head(Kind::Blob, 405);
        upstream.script(smaller(blobs().get().times(1 + nth).ignore_range().truncated_to(100_000)));
        let stopped = empty(&one(&upstream, "")).await;
        let partial = partial_path(&stopped.storage(), "docker.io", &digest);
        write(&partial, content.slice(0, 200_000));
        write(&partial.with_extension("json"), "{\"size_bytes\":null,\"synced_bytes\":200000}");
        let mirror = stopped.start().await;
        assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes());
        quiet(&mirror).await;
        assert_eq!(mirror.metric("roadstead_fills_running{authority=\"docker.io\"}"), 0.0);
    }
}

/// `docker.io` served the blob; `evil.test` began to send something under its digest and never ended. A restart must not
/// make the second the origin of the first one's bytes, for an origin proves itself with a HEAD.
#[tokio::test]
async fn t9_a_download_that_was_not_finished_does_not_become_the_origin_of_what_is_stored() {
    let (upstream, evil) = (Upstream::start().await, Upstream::start().await);
    let content = blob(SIZE, 6);
    let digest = upstream.blob("corp/secret", &content);
    let toml = format!("{}[upstreams.\"evil.test\"]\nurl = \"{}\"\n", one(&upstream, ""), evil.url());
    let mirror = Mirror::start(toml).await;
    mirror.client().get(&path_in("corp/secret", &digest)).await;
    quiet(&mirror).await;
    let stopped = mirror.stop().await;
    let partial = partial_path(&stopped.storage(), "evil.test", &digest);
    write(&partial, [0; 1000]);
    write(&partial.with_extension("json"), sidecar(1000));
    let mirror = stopped.start().await;
    evil.script(blobs().head().always().head_says_yes(SIZE));
    let path = format!("{}?ns=evil.test", path_in("corp/secret", &digest));
    assert_eq!(mirror.client().get(&path).await.status, 404);
    assert_eq!(mirror.client().get(&path_in("corp/secret", &digest)).await.header("cache-status"), "roadstead; hit");
}
