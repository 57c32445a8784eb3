//! One process per storage, and a layout that it knows.

use std::path::Path;
use std::process::{Command, Output};

use roadstead::file_blocks::in_blocks;

use super::{path_of, quiet};
use crate::support::image::image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

/// Runs the real program on this storage, which it must refuse.
fn refused(storage: &Path) -> Output {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    serve.arg("serve").env_clear();
    serve.env("ROADSTEAD__STORAGE__PATH", storage);
    serve.env("ROADSTEAD__SERVER__LISTEN", "127.0.0.1:0").env("ROADSTEAD__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
    let output = serve.output().unwrap();
    assert!(!output.status.success());
    output
}

#[tokio::test]
async fn a_second_process_is_told_the_first_ones_pid() {
    let upstream = Upstream::start().await;
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let storage = mirror.storage();
    let output = tokio::task::spawn_blocking(move || refused(&storage)).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("pid {}", std::process::id())) && said.contains("storage.path"), "{said}");
    let digest = upstream.blob("library/app", "content");
    assert_eq!(mirror.client().get(&path_of(&digest)).await.status, 200, "the first one goes on");
}

#[tokio::test]
async fn a_layout_from_the_future_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for version in ["2\n", "17", "something else"] {
        std::fs::write(directory.path().join("VERSION"), version).unwrap();
        let storage = directory.path().to_owned();
        let output = tokio::task::spawn_blocking(move || refused(&storage)).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("newer version") && said.contains(version.trim()), "{said}");
        assert_eq!(std::fs::read_to_string(directory.path().join("VERSION")).unwrap(), version);
        assert!(!directory.path().join("blobs").exists() && !directory.path().join("index.redb").exists());
    }
}

#[tokio::test]
async fn blobs_are_where_the_layout_says_and_only_the_owner_writes_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::start().await;
    let content = blob(100_000, 1);
    let (short, long) = (upstream.blob("library/app", &content), content.sha512());
    upstream.blob_as("library/app", &long, &content);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    for digest in [&short, &long] {
        mirror.client().get(&path_of(digest)).await;
    }
    quiet(&mirror).await;
    for digest in [short, long] {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        let path = mirror.storage().join("blobs").join(algorithm).join(&hex[..2]).join(hex);
        assert!(std::fs::read(&path).unwrap() == content.to_bytes());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(std::fs::read_to_string(mirror.storage().join("VERSION")).unwrap(), "1\n");
}

/// Nothing is visible under a digest before it is proven.
#[tokio::test]
async fn t17_a_running_fill_is_not_under_its_digest() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(300_000, 2));
    let gate = Gate::closed();
    upstream.script(blobs().get().once().stall_after(299_999, &gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut reader = super::open(&mirror.client(), &path_of(&digest)).await;
    super::take(&mut reader, 200_000).await;
    let name = format!("partial/docker.io/{}", digest.replace(':', "-"));
    assert_eq!(files_below(&mirror.storage().join("partial")), [mirror.storage().join(name)]);
    assert!(super::stored_files(&mirror).is_empty());
    gate.open();
    assert!(super::rest(&mut reader).await.1);
}

#[tokio::test]
async fn t18_a_manifest_that_rotted_on_disk_is_dropped_and_fetched_again() {
    let upstream = Upstream::start().await;
    let image = image(&[blob(100, 3)]);
    upstream.publish("library/app", "latest", &image);
    let path = format!("/v2/library/app/manifests/{}", image.digest);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.client().get(&path).await;
    super::eventually("it is stored", async || !super::stored_files(&mirror).is_empty()).await;
    // Contents in memory go with the process.
    let stopped = mirror.stop().await;
    let stored = files_below(&stopped.storage().join("blobs")).remove(0);
    let mut bytes = std::fs::read(&stored).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    let mirror = stopped.start().await;
    for gets in [2, 2] {
        let answer = mirror.client().get(&path).await;
        assert!(answer.status == 200 && answer.body == image.manifest, "{}", answer.text());
        assert_eq!(upstream.gets_of(&image.digest), gets);
    }
    super::eventually("it is whole again", async || std::fs::read(&stored).is_ok_and(|bytes| bytes == image.manifest))
        .await;
}

/// The same bytes reach one place from many requests at once, and none may see another's half.
#[tokio::test]
async fn t17_one_manifest_written_many_times_at_once_is_whole() {
    let upstream = Upstream::start().await;
    let image = crate::support::image::Builder::new().padding(2_000_000).build();
    for nth in 0..20 {
        upstream.publish_untagged(&format!("library/app{nth}"), &image);
    }
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let gate = Gate::closed();
    upstream.script(manifests().get().always().stall_before_headers(&gate));
    let pulls: Vec<_> = (0..20)
        .map(|nth| {
            let (client, path) = (mirror.client(), format!("/v2/library/app{nth}/manifests/{}", image.digest));
            tokio::spawn(async move { client.get(&path).await.body })
        })
        .collect();
    gate.arrived_times(20).await;
    gate.open();
    for pull in pulls {
        assert!(pull.await.unwrap() == image.manifest);
    }
    let stopped = mirror.stop().await;
    let stored = files_below(&stopped.storage().join("blobs"));
    assert_eq!(stored.len(), 1);
    assert_eq!(sha256(&std::fs::read(&stored[0]).unwrap()), image.digest);
    let mirror = stopped.start().await;
    assert!(super::partial_files(&mirror).is_empty());
    assert_eq!(super::counted(&mirror, "roadstead_stored_bytes"), in_blocks(image.manifest.len() as u64));
}
