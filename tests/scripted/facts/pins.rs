//! Pins, and the list of lost blobs, outlive the index. By the real program.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::backup::{config, run, said};
use super::outage::{takes_no_facts, tear_the_journal};
use super::{eventually, files, held, lose_the_index};
use crate::support::mirror::{Stopped, files_below};

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {}", said(output)))
}

/// Patterns made by command, as `pin ls` shows them.
async fn pins(config: &Path) -> Vec<String> {
    let output = run(config, &["pin", "ls", "--json"]).await;
    let shown = json(&output);
    let made = shown["pins"].as_array().unwrap().iter().filter(|pin| pin["configured"] == false);
    made.map(|pin| pin["pattern"].as_str().unwrap().to_owned()).collect()
}

async fn done(config: &Path, arguments: &[&str]) {
    let output = run(config, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
}

/// A bit of every stored blob turned over, as a failing disk does.
fn rot_all(stopped: &Stopped) -> usize {
    let blobs = files_below(&stopped.storage().join("blobs"));
    for path in &blobs {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    blobs.len()
}

#[tokio::test]
async fn pins_made_by_command_outlive_the_index_and_come_back_with_a_backup() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    done(&config, &["pin", "add", "docker.io/org/**", "quay.io/org/app:1*"]).await;
    let both = ["docker.io/org/**".to_owned(), "quay.io/org/app:1*".to_owned()];
    assert_eq!(pins(&config).await, both);
    let backup = directory.path().join("facts.backup");
    done(&config, &["backup", backup.to_str().unwrap()]).await;
    let stopped = mirror.stop().await;
    assert_eq!(pins(&config).await, both, "of a stopped server");
    // From the journal, and then from the snapshot that was taken after the first loss.
    for _loss in 0..2 {
        lose_the_index(&stopped.storage());
        assert_eq!(pins(&config).await, both);
    }
    assert_eq!(files(&stopped, "snapshot-").len(), 1);
    done(&config, &["pin", "rm", "docker.io/org/**"]).await;
    lose_the_index(&stopped.storage());
    assert_eq!(pins(&config).await, both[1..], "taken back");
    std::fs::remove_dir_all(stopped.storage().join("facts")).unwrap();
    lose_the_index(&stopped.storage());
    assert!(pins(&config).await.is_empty());
    done(&config, &["restore", backup.to_str().unwrap()]).await;
    assert_eq!(pins(&config).await, both);
}

#[tokio::test]
async fn what_is_lost_outlives_the_index_and_comes_back_with_a_backup() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[defaults]\noffline = true\n")).unwrap();
    let stopped = mirror.stop().await;
    let count = rot_all(&stopped);
    let verified = run(&config, &["verify", "--rate", "unlimited", "--json"]).await;
    assert_eq!(verified.status.code(), Some(1), "{}", said(&verified));
    let job = json(&verified);
    assert_eq!((&job["state"], job["report"]["lost"].as_array().unwrap().len()), (&"done".into(), count), "{job}");
    let before = json(&run(&config, &["lost", "--json"]).await);
    assert_eq!(before["lost"].as_array().unwrap().len(), count);
    for _loss in 0..2 {
        lose_the_index(&stopped.storage());
        assert_eq!(json(&run(&config, &["lost", "--json"]).await), before);
    }
    let backup = directory.path().join("facts.backup");
    done(&config, &["backup", backup.to_str().unwrap()]).await;
    std::fs::remove_dir_all(stopped.storage().join("facts")).unwrap();
    lose_the_index(&stopped.storage());
    let lines = said(&run(&config, &["lost"]).await);
    assert!(lines.contains("nothing is lost"), "{lines}");
    done(&config, &["restore", backup.to_str().unwrap()]).await;
    assert_eq!(json(&run(&config, &["lost", "--json"]).await), before);
    let status = json(&run(&config, &["status", "--json"]).await);
    assert_eq!(status["lost"], count);
}

/// What a command has failed to do is not done behind its back.
#[tokio::test]
async fn a_pin_that_was_refused_is_not_made_later() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    done(&config, &["pin", "add", "docker.io/org/kept"]).await;
    let kept = ["docker.io/org/kept"];
    let stopped = mirror.stop().await;
    tear_the_journal(&stopped);
    let mirror = stopped.start().await;
    let put_back = takes_no_facts(&mirror);
    for refused in [["pin", "add", "docker.io/org/app"], ["pin", "rm", "docker.io/org/kept"]] {
        let refused = run(&config, &refused).await;
        assert!(!refused.status.success() && said(&refused).contains("index"), "{}", said(&refused));
    }
    assert_eq!(pins(&config).await, kept);
    put_back();
    eventually("it heals", async || mirror.metric(r#"roadstead_storage_healthy{part="index"}"#) == 1.0).await;
    assert_eq!(pins(&config).await, kept);
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    assert_eq!(pins(&config).await, kept, "nor is it in the facts beside the blobs");
}

#[tokio::test]
async fn verify_reads_a_stopped_storage_and_says_that_all_is_right() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    let stopped = mirror.stop().await;
    let verified = run(&config, &["verify", "--rate", "unlimited"]).await;
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(
        said(&verified).contains("4 blobs with") && said(&verified).contains("all is right"),
        "{}",
        said(&verified)
    );
    assert!(stopped.storage().join("STOPPED").exists(), "the last server's stop stays a clean one");
    let wrong = run(&config, &["verify", "--rate", "fast"]).await;
    assert!(!wrong.status.success() && said(&wrong).contains("50MiB/s"), "{}", said(&wrong));
}

#[tokio::test]
async fn verify_of_a_running_server_tells_what_was_wrong_by_its_exit_code() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    let clean = run(&config, &["verify", "--rate", "unlimited"]).await;
    assert!(clean.status.success() && said(&clean).contains("all is right"), "{}", said(&clean));
    assert!(said(&clean).contains("the server runs verify-"), "{}", said(&clean));
    let path = files_below(&mirror.storage().join("blobs")).remove(0);
    let digest = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = run(&config, &["verify", "--rate", "unlimited"]).await;
    assert_eq!(found.status.code(), Some(1));
    assert!(said(&found).contains(&format!("wrong: {digest}: it is fetched again")), "{}", said(&found));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_damaged_last_copy_that_a_request_finds_goes_to_quarantine_and_is_lost() {
    let (upstream, mirror, paths) = held().await;
    let stopped = mirror.stop().await;
    rot_all(&stopped);
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\noffline = true\n", upstream.url());
    let mirror = stopped.start_with(toml).await;
    let digest_of = |path: &str| path.split('/').next_back().unwrap().split('?').next().unwrap().to_owned();
    let asked: Vec<_> = paths.iter().filter(|path| path.contains("docker.io") && path.contains("sha256:")).collect();
    let asked: Vec<_> = asked.into_iter().filter(|path| !path.contains("referrers")).collect();
    let mut found = Vec::new();
    for path in asked {
        if mirror.client().get(path).await.status == 404 {
            found.push(digest_of(path));
        }
    }
    // The manifest, its config and the small layer; the large one is for verify to find.
    assert_eq!(found.len(), 3, "{found:?}");
    let lost: Vec<_> = roadstead::cache::scrub::lost(mirror.inner().cache())
        .await
        .unwrap()
        .iter()
        .map(|lost| lost.digest.to_string())
        .collect();
    assert!(lost.len() == 3 && found.iter().all(|digest| lost.contains(digest)), "{lost:?}");
    assert_eq!(
        files_below(&mirror.storage().join("quarantine")).len(),
        3,
        "their bytes are kept for who looks into it"
    );
}
