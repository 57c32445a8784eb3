//! Out of one mirror and into another, by the real program.

use super::{app, assert_nothing_of, assert_served, at, island, lines, pull, site, stored, text};
use crate::facts::backup::said;
use crate::support::image::artifact;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

#[tokio::test]
async fn what_is_exported_here_is_served_there_without_a_network() {
    let (_registry, mirror, one, two) = site().await;
    let (folder, island) = (tempfile::tempdir().unwrap(), island().await);
    let file = folder.path().join("bundle.tar");
    let done = at(&mirror, &["export", "--json", "--output", text(&file), "org/app:1", "docker.io/org/app:2"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let (items, last) = lines(&done);
    assert_eq!(last, serde_json::json!({"done": true, "items": 2, "failed": 0}));
    assert!(items.iter().all(|item| item["outcome"] == "done" && item["problem"].is_null()), "{items:?}");

    let done = at(&island, &["import", "--json", text(&file)]).await;
    assert!(done.status.success(), "{}", said(&done));
    let (items, last) = lines(&done);
    assert_eq!((items[0]["item"].as_str(), items[0]["outcome"].as_str()), (Some("docker.io/org/app:1"), Some("done")));
    assert_eq!(last["failed"], 0);
    assert_served(&island, "org/app", "1", &one).await;
    assert_served(&island, "org/app", &two.digest, &two).await;

    // Once more: it is all there.
    let (items, _) = lines(&at(&island, &["import", "--json", text(&file)]).await);
    assert!(items.iter().all(|item| item["outcome"] == "held"), "{items:?}");
    // It outlives the index, and the process.
    let stopped = island.stop().await;
    std::fs::remove_file(stopped.storage().join("index.redb")).unwrap();
    let island = stopped.start().await;
    assert_served(&island, "org/app", "2", &two).await;
    assert!(files_below(&island.storage().join("partial")).is_empty());
    assert!(!island.storage().join("STAGED").exists());
}

#[tokio::test]
async fn the_same_content_gives_the_same_bytes_in_an_archive_a_directory_and_a_stream() {
    let (_registry, mirror, ..) = site().await;
    let folder = tempfile::tempdir().unwrap();
    let (one, other, directory) =
        (folder.path().join("one.tar"), folder.path().join("other.tar"), folder.path().join("layout/"));
    for (path, names) in [(&one, ["org/app:1", "org/app:2"]), (&other, ["org/app:2", "org/app:1"])] {
        let done = at(&mirror, &["export", "--output", text(path), names[0], names[1]]).await;
        assert!(done.status.success(), "{}", said(&done));
    }
    let bytes = std::fs::read(&one).unwrap();
    assert_eq!(bytes, std::fs::read(&other).unwrap());
    let stream = at(&mirror, &["export", "--all", "--output", "-"]).await;
    assert!(stream.status.success() && stream.stdout == bytes, "all that is held is these two");
    let done = at(&mirror, &["export", "--used-since", "1d", "--output", text(&directory)]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(files_below(&directory).len(), 4 + 2 * 4, "four files that describe, and manifest, config, layers");
    // A stopped storage gives the same.
    let stopped = mirror.stop().await;
    let mirror_again = folder.path().join("stopped.tar");
    let config = crate::facts::backup::config(folder.path(), &stopped.storage());
    let done = crate::facts::backup::run(&config, &["export", "--all", "--output", text(&mirror_again)]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(std::fs::read(mirror_again).unwrap(), bytes);

    // A directory is imported as an archive is, also where no server runs, or ever ran.
    let island = island().await.stop().await;
    std::fs::remove_dir_all(island.storage()).unwrap();
    let config = crate::facts::backup::config(folder.path(), &island.storage());
    let done = crate::facts::backup::run(&config, &["import", text(&directory)]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island.start().await, "org/app", "1", &app(10)).await;
}

#[tokio::test]
async fn what_is_not_whole_is_left_out_and_told() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &app(1));
    registry.publish("org/whole", "1", &app(5));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    pull(&mirror, "org/whole", "1", &app(5)).await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    stored(&mirror, &app(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.tar");
    let names = ["org/app:1", "org/none:1", "org/whole:1", "a b", "other.example/x:1"];
    let mut arguments = vec!["export", "--json", "--output", text(&file)];
    arguments.extend(names);
    let done = at(&mirror, &arguments).await;
    assert_eq!(done.status.code(), Some(1));
    let (items, last) = lines(&done);
    let outcomes: Vec<_> = items.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["missing", "missing", "done", "refused", "refused"], "{items:?}");
    assert!(items[0]["problem"].as_str().unwrap().contains(&app(1).blobs[0].digest), "{items:?}");
    assert_eq!((&last["items"], &last["failed"]), (&5.into(), &4.into()));
    let island = island().await;
    let done = at(&island, &["import", text(&file)]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/whole", "1", &app(5)).await;
    assert_nothing_of(&island, "org/app", &app(1)).await;
}

#[tokio::test]
async fn signatures_travel_and_are_found_there() {
    let registry = Upstream::start().await;
    let app = app(1);
    registry.publish("org/app", "1", &app);
    let signature = artifact(&app, "application/vnd.test.signature", blob(10, 3));
    registry.put_referrer("org/app", &signature);
    let cosign = app.digest.replace(':', "-") + ".sig";
    registry.publish("org/app", &cosign, &super::app(7));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    pull(&mirror, "org/app", "1", &app).await;
    pull(&mirror, "org/app", &cosign, &super::app(7)).await;
    pull(&mirror, "org/app", &signature.digest, &signature).await;
    let (folder, island) = (tempfile::tempdir().unwrap(), island().await);
    let file = folder.path().join("b.tar");
    let done = at(&mirror, &["export", "--referrers", "--output", text(&file), "org/app:1"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let done = at(&island, &["import", "--json", text(&file)]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(lines(&done).0.len(), 3, "{}", said(&done));
    let referrers = island.client().get(&format!("/v2/org/app/referrers/{}", app.digest)).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], signature.digest.as_str());
    assert_served(&island, "org/app", &cosign, &super::app(7)).await;
    assert_served(&island, "org/app", &signature.digest, &signature).await;
}

#[tokio::test]
async fn a_delta_in_parts_comes_in_any_order_and_the_missing_and_the_corrupt_part_are_told() {
    let (registry, mirror, one, two) = site().await;
    let (folder, island) = (tempfile::tempdir().unwrap(), island().await);
    let path = |name: &str| folder.path().join(name);
    let done = at(&mirror, &["export", "--output", text(&path("whole.tar")), "org/app:1"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert!(at(&island, &["import", text(&path("whole.tar"))]).await.status.success());
    let done = at(&island, &["inventory", "--output", text(&path("held.receipt"))]).await;
    assert!(done.status.success(), "{}", said(&done));

    let three = crate::support::image::image(&[one.layers()[0].content.clone(), blob(150_000, 77), blob(150_000, 78)]);
    registry.publish("org/app", "3", &three);
    pull(&mirror, "org/app", "3", &three).await;
    let delta = path("delta.tar");
    let since = ["--since", text(&path("held.receipt")), "--split", "240KB"].map(str::to_owned);
    let arguments = ["export", "--json", "--output", text(&delta), "--all", &since[0], &since[1], &since[2], &since[3]];
    let done = at(&mirror, &arguments).await;
    assert!(done.status.success(), "{}", said(&done));
    let held: Vec<_> = lines(&done).0.into_iter().filter(|item| item["outcome"] == "held").collect();
    assert_eq!(held[0]["item"], "docker.io/org/app:1");
    let parts: Vec<_> = (1..=3).map(|n| path(&format!("delta.{n}-of-3.tar"))).collect();
    for part in &parts {
        let size = std::fs::metadata(part).unwrap().len();
        assert!(size <= 240_000, "{} has {size}", part.display());
    }

    // The last one first; then the first with a byte of a layer changed; the second is not at hand.
    let done = at(&island, &["import", "--json", text(&parts[2])]).await;
    assert!(done.status.success(), "what waits is no failure: {}", said(&done));
    let (items, last) = lines(&done);
    assert!(
        last["waiting"].as_u64() >= Some(1)
            && items.iter().any(|item| item["problem"]
                .as_str()
                .is_some_and(|why| why.contains("waits for part 1 and part 2 of 3"))),
        "{items:?}"
    );
    let mut corrupt = std::fs::read(&parts[0]).unwrap();
    let end = corrupt.len() - 20_000;
    corrupt[end] ^= 1;
    std::fs::write(path("corrupt.tar"), corrupt).unwrap();
    let done = at(&island, &["import", "--json", text(&path("corrupt.tar"))]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("has other bytes"), "{}", said(&done));
    let done = at(&island, &["import", "--json", text(&parts[1])]).await;
    assert!(
        done.status.success() && lines(&done).0[0]["outcome"] == "done",
        "what was right in the corrupt part counts"
    );
    assert_served(&island, "org/app", "3", &three).await;
    assert_nothing_of_tag(&island, "2").await;
    let done = at(&island, &["import", "--json", text(&parts[0])]).await;
    assert!(done.status.success(), "{}", said(&done));
    // All once more: it is all there.
    let done = at(&island, &["import", text(&parts[0]), text(&parts[1]), text(&parts[2])]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/app", "3", &three).await;
    assert_served(&island, "org/app", "2", &two).await;
    assert_served(&island, "org/app", "1", &one).await;
    assert!(!island.storage().join("STAGED").exists());
}

async fn assert_nothing_of_tag(mirror: &Mirror, tag: &str) {
    assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{tag}")).await.status, 404);
}

/// Nobody has to log in to the mirror's machine.
#[tokio::test]
async fn bundles_go_in_and_out_over_the_network_with_the_token() {
    let (_registry, mirror, one, _) = site().await;
    let folder = tempfile::tempdir().unwrap();
    let (token, bundle) = (folder.path().join("token"), folder.path().join("b.tar"));
    std::fs::write(&token, "a-token-of-the-site\n").unwrap();
    assert!(at(&mirror, &["export", "--output", text(&bundle), "org/app:1"]).await.status.success());
    let toml = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";
    let key = format!("admin_token_file = \"{}\"", token.display());
    let island = Mirror::builder(toml).server(&key).start().await;
    let url = format!("http://{}", island.admin);
    let run = async |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.env_clear().args(arguments).args(["--server", &url]);
        command
    };
    let output = async |mut command: std::process::Command| {
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let refused = output(run(&["import", text(&bundle)]).await).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let with_token = ["--token-file", text(&token)];
    let done = output(run(&[&["import", text(&bundle)], &with_token[..]].concat()).await).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/app", "1", &one).await;
    let again = folder.path().join("again.tar");
    let done = output(run(&[&["export", "--all", "--output", text(&again)], &with_token[..]].concat()).await).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(std::fs::read(&bundle).unwrap(), std::fs::read(again).unwrap());
}

#[tokio::test]
async fn two_imports_at_once_do_not_take_each_others_blobs() {
    let (_registry, mirror, one, two) = site().await;
    let (folder, island) = (tempfile::tempdir().unwrap(), island().await);
    let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
    assert!(at(&mirror, &["export", "--output", text(&first), "org/app:1", "org/app:2"]).await.status.success());
    assert!(at(&mirror, &["export", "--output", text(&second), "org/app:2"]).await.status.success());
    let both = ["import", text(&first)];
    let (again, renamed) = (["import", text(&second)], ["import", text(&second), "--as", "docker.io/other/app:1"]);
    let (one_done, other_done, third) = tokio::join!(at(&island, &both), at(&island, &again), at(&island, &renamed));
    for done in [one_done, other_done, third] {
        assert!(done.status.success(), "{}", said(&done));
    }
    assert_served(&island, "org/app", "1", &one).await;
    assert_served(&island, "org/app", "2", &two).await;
    assert_served(&island, "other/app", "1", &two).await;
    assert!(!island.storage().join("STAGED").exists());
}
