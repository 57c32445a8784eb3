//! Records without files: what the index knows is compared with what is there.

use std::path::{Path, PathBuf};

use roadstead::cache::scrub::{self, VerifyProgress};
use serde_json::Value;

use super::{eventually, is_held, one, published, pull, quiet};
use crate::facts::backup::{config, run, said};
use crate::support::client::Client;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn blob_path(storage: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    storage.join("blobs/sha256").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn a_stored_blob_that_is_missing_is_listed_and_fetched_again() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(one(&upstream)).await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    let cache = mirror.inner().cache();
    let before = cache.counts().await.unwrap();
    let layer = &app.layers()[1];
    let path = blob_path(&mirror.storage(), &layer.digest);
    std::fs::remove_file(&path).unwrap();
    let report = scrub::verify(cache, None, &VerifyProgress::default()).await;
    let missing: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, std::slice::from_ref(&layer.digest));
    assert!(report.complete && !report.is_clean() && report.wrong.is_empty() && report.lost.is_empty(), "{report:?}");
    let after = cache.counts().await.unwrap();
    assert_eq!((after.blobs, after.stored_bytes), (before.blobs - 1, before.stored_bytes - 300_000));
    let ready = Client::new(mirror.admin).get("/readyz").await.text();
    assert!(ready.contains("degraded: verify: stored blobs are missing"), "{ready}");
    pull(&mirror.client(), "app", &app).await;
    quiet(&mirror).await;
    assert!(is_held(&mirror.client(), "app", &app).await && path.exists());
    assert!(scrub::verify(cache, None, &VerifyProgress::default()).await.is_clean());
    assert_eq!(Client::new(mirror.admin).get("/readyz").await.text(), "ready\n", "a clean pass heals");
}

/// Of a directory of blobs that is gone as a whole, nothing is found, and everything is missing.
#[tokio::test]
async fn a_verify_of_a_stopped_storage_lists_what_is_missing_and_exits_with_1() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(one(&upstream)).await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{}offline = true\n", one(&upstream))).unwrap();
    let stopped = mirror.stop().await;
    let layer = &app.layers()[1].digest;
    let shard = blob_path(&stopped.storage(), layer).parent().unwrap().to_owned();
    std::fs::remove_dir_all(shard).unwrap();
    let verified = run(&config, &["verify", "--rate", "unlimited"]).await;
    let text = said(&verified);
    assert_eq!(verified.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("missing: {layer}: no upstream that is online has it")), "{text}");
    assert!(!text.contains("all is right"), "{text}");
    let lost = said(&run(&config, &["lost"]).await);
    assert!(lost.contains(&format!("{layer} 293.0 KiB")), "{lost}");
    let status: Value = serde_json::from_slice(&run(&config, &["status", "--json"]).await.stdout).unwrap();
    assert_eq!((&status["facts"]["blobs"], &status["lost"]), (&3.into(), &1.into()), "{status}");
    let for_people = said(&run(&config, &["status"]).await);
    assert!(for_people.contains("\nmax_size: none\n") && for_people.contains(" KiB\n"), "{for_people}");
    let again = run(&config, &["verify", "--rate", "unlimited"]).await;
    assert!(again.status.success() && said(&again).contains("all is right"), "{}", said(&again));
}

/// Nobody has to run a verify for that: the request that misses it is enough.
#[tokio::test]
async fn a_last_copy_that_a_request_finds_missing_is_listed_as_lost() {
    let upstream = Upstream::start().await;
    let app = published(&upstream, "app", 1);
    let mirror = Mirror::start(one(&upstream)).await;
    mirror.pull_whole("org/app", "1").await;
    quiet(&mirror).await;
    let stopped = mirror.stop().await;
    let layer = &app.layers()[1].digest;
    std::fs::remove_file(blob_path(&stopped.storage(), layer)).unwrap();
    let mirror = stopped.start_with(format!("{}offline = true\n", one(&upstream))).await;
    assert_eq!(mirror.client().get(&format!("/v2/org/app/blobs/{layer}")).await.status, 404);
    eventually("it is listed", async || {
        let lost = scrub::lost(mirror.inner().cache()).await.unwrap();
        lost.iter().map(|lost| lost.digest.to_string()).eq([layer.clone()])
    })
    .await;
}
