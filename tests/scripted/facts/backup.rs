//! Backup and restore, by the real program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::{answers, held};
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// The program's configuration for a storage that a test's mirror may be using.
pub(crate) fn config(directory: &Path, storage: &Path) -> PathBuf {
    let file = directory.join("roadstead.toml");
    let path = storage.display();
    std::fs::write(&file, format!("[server]\nadmin_listen = \"off\"\n[storage]\npath = \"{path}\"\n")).unwrap();
    file
}

pub(crate) async fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.env_clear().arg(arguments[0]).arg("--config").arg(config).args(&arguments[1..]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_backup_of_a_running_server_brings_back_all_facts_that_were_lost() {
    let (upstream, mirror, paths) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = (config(directory.path(), &mirror.storage()), directory.path().join("facts.backup"));
    let done = run(&config, &["backup", file.to_str().unwrap()]).await;
    assert!(done.status.success() && said(&done).contains("blobs are not in it"), "{}", said(&done));
    let before = answers(&mirror.client(), &paths).await;
    let stopped = mirror.stop().await;
    upstream.stop().await;
    // A stopped storage is backed up the same; in a directory the file has a name of its own.
    let folder = directory.path().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let again = run(&config, &["backup", folder.to_str().unwrap()]).await;
    assert!(again.status.success(), "{}", said(&again));
    let other = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(other).unwrap());

    std::fs::remove_dir_all(stopped.storage().join("facts")).unwrap();
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    let restored = run(&config, &["restore", file.to_str().unwrap()]).await;
    assert!(restored.status.success() && said(&restored).contains("facts were put back"), "{}", said(&restored));
    let mirror = stopped.start().await;
    assert_eq!(answers(&mirror.client(), &paths).await, before);
}

/// Facts name private repositories, and a directory of backups may be anybody's.
#[tokio::test]
async fn a_backup_is_for_its_owner_only_and_is_written_through_no_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (_upstream, mirror, _paths) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = (config(directory.path(), &mirror.storage()), directory.path().join("facts.backup"));
    let target = directory.path().join("somebody's");
    std::fs::write(&target, "theirs").unwrap();
    symlink(&target, &file).unwrap();
    symlink(&target, directory.path().join("facts.backup.part")).unwrap();
    let done = run(&config, &["backup", file.to_str().unwrap()]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
    let made = std::fs::symlink_metadata(&file).unwrap();
    assert!(made.is_file());
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read(&file).unwrap().len() > 1000);
}

#[tokio::test]
async fn what_is_newer_than_a_backup_stays() {
    let upstream = Upstream::start().await;
    let (old, new) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    upstream.publish("org/app", "1", &old);
    upstream.publish("org/gone", "1", &old);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    mirror.pull_whole("org/gone", "1").await;
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = (config(directory.path(), &mirror.storage()), directory.path().join("facts.backup"));
    assert!(run(&config, &["backup", file.to_str().unwrap()]).await.status.success());
    upstream.publish("org/app", "1", &new);
    mirror.advance(Duration::from_mins(2));
    mirror.pull_whole("org/app", "1").await;
    let stopped = mirror.stop().await;
    upstream.stop().await;
    assert!(run(&config, &["restore", file.to_str().unwrap()]).await.status.success());
    let mirror = stopped.start().await;
    let tag = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((tag.status, tag.header("docker-content-digest")), (200, new.digest.as_str()));
}

#[tokio::test]
async fn what_is_no_whole_backup_changes_nothing() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = (config(directory.path(), &mirror.storage()), directory.path().join("facts.backup"));
    let name = file.to_str().unwrap();
    assert!(run(&config, &["backup", name]).await.status.success());
    let refused = run(&config, &["restore", name]).await;
    assert!(!refused.status.success() && said(&refused).contains("the server runs: stop it"), "{}", said(&refused));
    let stopped = mirror.stop().await;
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let newer = whole.replacen(lines[0], super::sealed(r#"{"roadstead_facts":2}"#).trim_end(), 1);
    let cases = [
        (whole[..whole.len() / 2].to_owned(), "its end is missing"),
        (whole.replacen(&format!("{}\n", lines[2]), "", 1), "not as many as it says"),
        (whole.replacen("org/app", "org/bad", 1), "not what was written"),
        (newer, "newer release"),
        ("{}\n".to_owned(), "no backup"),
        (String::new(), "no backup"),
    ];
    std::fs::remove_dir_all(stopped.storage().join("facts")).unwrap();
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    for (text, why) in cases {
        std::fs::write(&file, text).unwrap();
        let refused = run(&config, &["restore", name]).await;
        assert!(!refused.status.success() && said(&refused).contains(why), "{why}: {}", said(&refused));
    }
    let status = run(&config, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["facts"]["tags"], &status["facts"]["blobs"]), (&0.into(), &4.into()), "{status}");
}

#[tokio::test]
async fn status_is_told_of_a_running_and_of_a_stopped_server() {
    let (_upstream, mirror, _) = held().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &mirror.storage());
    let shown = async || {
        let output = run(&config, &["status", "--json"]).await;
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let running = shown().await;
    assert_eq!((&running["running"], &running["version"]), (&true.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&running["facts"]["blobs"], &running["facts"]["tags"]), (&4.into(), &4.into()));
    assert!(running["used_bytes"].as_u64().unwrap() > 100_500);
    let lines = said(&run(&config, &["status"]).await);
    assert!(lines.contains("running: yes\n") && lines.contains("blobs: 4\n"), "{lines}");
    let stopped = mirror.stop().await;
    let after = shown().await;
    assert_eq!((&after["running"], &after["facts"]), (&false.into(), &running["facts"]));
    drop(stopped);
    let nowhere = run(&config, &["status"]).await;
    assert!(!nowhere.status.success() && said(&nowhere).contains("there is no storage at"), "{}", said(&nowhere));
}
