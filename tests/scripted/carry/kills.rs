//! The real program, killed at random moments while it warms, exports, imports and removes.

use std::path::Path;
use std::time::Duration;

use super::{app, lines, text};
use crate::blobs::process::Process;
use crate::facts::backup::{run, said};
use crate::support::client::Client;
use crate::support::faulty_disk::Dice;
use crate::support::image::Image;
use crate::support::mirror::files_below;
use crate::support::upstream::*;

/// More with `ROADSTEAD_KILLS=200`.
const KILLS: u64 = 20;
const OFFLINE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";

fn kills() -> u64 {
    std::env::var("ROADSTEAD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

fn images() -> Vec<Image> {
    (0..6).map(|n| app(1 + 10 * n)).collect()
}

async fn is_served(client: &Client, tag: usize, image: &Image) -> bool {
    let manifest = client.get(&format!("/v2/org/app/manifests/{tag}")).await;
    let mut is_whole = manifest.status == 200 && sha256(&manifest.body) == image.digest;
    for blob in &image.blobs {
        let answer = client.get(&format!("/v2/org/app/blobs/{}", blob.digest)).await;
        assert!(answer.status == 404 || sha256(&answer.body) == blob.digest, "wrong bytes");
        is_whole &= answer.status == 200;
    }
    is_whole
}

/// A bundle with all images, made by a mirror that holds them.
async fn bundle(folder: &Path) -> std::path::PathBuf {
    let registry = Upstream::start().await;
    let mirror = crate::support::mirror::Mirror::of("docker.io", registry.url()).await;
    for (tag, image) in images().iter().enumerate() {
        registry.publish("org/app", &tag.to_string(), image);
        super::pull(&mirror, "org/app", &tag.to_string(), image).await;
    }
    let bundle = folder.join("bundle.tar");
    let done = super::at(&mirror, &["export", "--all", "--output", text(&bundle)]).await;
    assert!(done.status.success(), "{}", said(&done));
    bundle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t77_kill_9_in_an_import_leaves_what_was_reported_and_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, storage) = (bundle(folder.path()).await, folder.path().join("data"));
    let mut dice = Dice(kills());
    for kill in 0..kills() {
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        let config = folder.path().join("roadstead.toml");
        let arguments = ["import", "--json", text(&bundle)];
        let importing = run(&config, &arguments);
        let killing = async {
            // The moment is random, not the order of anything.
            tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
            process.kill();
        };
        let (done, ()) = tokio::join!(importing, killing);
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        let client = process.client();
        let reported = String::from_utf8_lossy(&done.stdout).into_owned();
        for (tag, image) in images().iter().enumerate() {
            let is_whole = is_served(&client, tag, image).await;
            let is_reported =
                reported.lines().any(|line| line.contains(&format!("org/app:{tag}\"")) && line.contains("done"));
            assert!(is_whole || !is_reported, "{tag} was reported, and is gone (kill {kill})\n{reported}");
            let manifest = client.get(&format!("/v2/org/app/manifests/{tag}")).await.status;
            assert!(is_whole || manifest == 404, "{tag} is half there (kill {kill})");
        }
        process.stop().await;
        if kill % 4 == 3 {
            let done = run(&config, &["import", "--json", text(&bundle)]).await;
            assert!(done.status.success() && lines(&done).1["items"] == 6, "{}", said(&done));
            assert!(!storage.join("STAGED").exists());
            assert_eq!(files_below(&storage.join("blobs")).len(), 6 * 4);
            std::fs::remove_dir_all(&storage).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_a_warm_goes_on_by_itself() {
    let registry = Upstream::start().await;
    let names: Vec<String> = (0..6).map(|tag| format!("org/app:{tag}")).collect();
    for (tag, image) in images().iter().enumerate() {
        registry.publish("org/app", &tag.to_string(), image);
    }
    registry.throttle(4 * 1024 * 1024);
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("data");
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mut dice = Dice(kills());
    let rounds = kills() / 4;
    for round in 0..rounds {
        let process = Process::start_on(folder.path(), &storage, &toml).await;
        let (socket, body) = (storage.join("admin.sock"), serde_json::json!({ "references": names }).to_string());
        let posted = tokio::task::spawn_blocking(move || super::post(&socket, "/api/v1/warm", &body)).await.unwrap();
        assert_eq!(posted["job"]["kind"], "warm");
        let mut process = process;
        for _kill in 0..4 {
            tokio::time::sleep(Duration::from_millis(dice.below(150))).await;
            process.kill();
            process = Process::start_on(folder.path(), &storage, &toml).await;
        }
        // Nobody asks for it again.
        let jobs = storage.join("jobs");
        crate::support::eventually("the job has ended", async || files_below(&jobs).is_empty()).await;
        process.stop().await;
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        for (tag, image) in images().iter().enumerate() {
            assert!(is_served(&process.client(), tag, image).await, "{tag} (round {round})");
        }
        process.stop().await;
        std::fs::remove_dir_all(&storage).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_an_export_leaves_a_whole_bundle_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, storage) = (bundle(folder.path()).await, folder.path().join("data"));
    let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
    let config = folder.path().join("roadstead.toml");
    assert!(run(&config, &["import", text(&bundle)]).await.status.success());
    process.stop().await;
    let (whole, output) = (std::fs::read(&bundle).unwrap(), folder.path().join("out.tar"));
    let mut dice = Dice(kills());
    for kill in 0..kills() {
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        let arguments = ["export", "--all", "--output", text(&output)];
        let exporting = run(&config, &arguments);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            process.kill();
        };
        let (done, ()) = tokio::join!(exporting, killing);
        match std::fs::read(&output) {
            Ok(bytes) => assert!(bytes == whole, "kill {kill}"),
            Err(_) => assert!(!done.status.success(), "{}", said(&done)),
        }
        let _there = std::fs::remove_file(&output);
    }
    let done = run(&config, &["export", "--all", "--output", text(&output)]).await;
    assert!(done.status.success() && std::fs::read(&output).unwrap() == whole, "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_an_rm_leaves_gone_what_was_reported_and_the_rest_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, storage) = (bundle(folder.path()).await, folder.path().join("data"));
    let config = folder.path().join("roadstead.toml");
    let names: Vec<String> = (0..images().len()).map(|tag| format!("docker.io/org/app:{tag}")).collect();
    let remove: Vec<&str> = ["rm", "--json"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (mut dice, mut in_between) = (Dice(kills()), 0);
    for kill in 0..kills() {
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        let done = run(&config, &["import", text(&bundle)]).await;
        assert!(done.status.success(), "what was cut comes back (kill {kill}): {}", said(&done));
        let removing = run(&config, &remove);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            process.kill();
        };
        let (done, ()) = tokio::join!(removing, killing);
        let reported = String::from_utf8_lossy(&done.stdout).into_owned();
        let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
        let client = process.client();
        let mut left = 0;
        for (tag, image) in images().iter().enumerate() {
            let is_whole = is_served(&client, tag, image).await;
            let is_reported =
                reported.lines().any(|line| line.contains(&format!("org/app:{tag}\"")) && line.contains("done"));
            assert!(!is_whole || !is_reported, "{tag} was reported as gone, and is there (kill {kill})\n{reported}");
            let manifest = client.get(&format!("/v2/org/app/manifests/{tag}")).await.status;
            assert!(is_whole || manifest == 404, "{tag} is half there (kill {kill})");
            left += usize::from(is_whole);
        }
        in_between += usize::from(left > 0 && left < names.len());
        process.stop().await;
    }
    assert!(kills() < KILLS || in_between > 0, "no kill met an rm at work: other moments are needed");
    // It goes on.
    let process = Process::start_on(folder.path(), &storage, OFFLINE).await;
    assert!(run(&config, &["import", text(&bundle)]).await.status.success());
    let done = run(&config, &remove).await;
    assert!(done.status.success() && lines(&done).1["items"] == 6, "{}", said(&done));
    let left = files_below(&storage.join("blobs")).len();
    assert_eq!(left, 0, "what a cut rm left is removed with what it belongs to");
    process.stop().await;
}
