//! A lost index is made anew from the facts beside the blobs, with no upstream.

use super::{answers, files, held, lose_the_index, sealed, serves_as_before};
use crate::support::upstream::*;

#[tokio::test]
async fn tags_lists_referrers_and_grants_outlive_the_index() {
    let (upstream, mirror, paths) = held().await;
    let mirror = serves_as_before(upstream, mirror, &paths, lose_the_index).await;
    // The second time from the snapshot that was taken after the first.
    let before = answers(&mirror.client(), &paths).await;
    let stopped = mirror.stop().await;
    assert_eq!(files(&stopped, "snapshot-").len(), 1);
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(answers(&mirror.client(), &paths).await, before);
}

#[tokio::test]
async fn an_index_of_another_form_is_set_aside_and_never_deleted() {
    let (upstream, mirror, paths) = held().await;
    let foreign = b"redb-of-another-form".repeat(1000);
    let spoil = |storage: &std::path::Path| {
        std::fs::write(storage.join("index.redb.damaged"), "an earlier one").unwrap();
        std::fs::write(storage.join("index.redb"), &foreign).unwrap();
    };
    let mirror = serves_as_before(upstream, mirror, &paths, spoil).await;
    let kept = |name: &str| std::fs::read(mirror.storage().join(name)).unwrap();
    assert_eq!(kept("index.redb.damaged"), b"an earlier one");
    assert_eq!(kept("index.redb.damaged-1").len(), foreign.len());
}

#[tokio::test]
async fn a_rebuild_that_was_killed_begins_anew() {
    let (upstream, mirror, paths) = held().await;
    serves_as_before(upstream, mirror, &paths, |storage| {
        std::fs::rename(storage.join("index.redb"), storage.join("index.redb.new")).unwrap();
        std::fs::OpenOptions::new().write(true).open(storage.join("index.redb.new")).unwrap().set_len(5000).unwrap();
    })
    .await;
}

/// As after a kill -9, which takes what redb had not synced, or an old copy of the index put back.
#[tokio::test]
async fn an_index_that_is_behind_its_journal_takes_the_rest_in() {
    let (upstream, mirror, paths) = held().await;
    let stopped = mirror.stop().await;
    let index = stopped.storage().join("index.redb");
    let old = std::fs::read(&index).unwrap();
    let mirror = stopped.start().await;
    let image = crate::support::image::image(&[blob(900, 77)]);
    upstream.publish("org/late", "1", &image);
    mirror.pull_whole("org/late", "1").await;
    let layer = format!("/v2/org/late/blobs/{}", image.layers()[0].digest);
    let late = ["/v2/org/late/manifests/1".to_owned(), layer];
    let all: Vec<_> = paths.iter().chain(&late).cloned().collect();
    serves_as_before(upstream, mirror, &all, |_| std::fs::write(&index, old).unwrap()).await;
}

#[tokio::test]
async fn an_index_that_is_older_than_all_facts_is_set_aside() {
    let (upstream, mirror, paths) = held().await;
    let stopped = mirror.stop().await;
    let index = stopped.storage().join("index.redb");
    let old = std::fs::read(&index).unwrap();
    lose_the_index(&stopped.storage());
    // Makes a snapshot, which replaces the journal that the old one would have to go on with.
    let mirror = stopped.start().await;
    let mirror = serves_as_before(upstream, mirror, &paths, |_| std::fs::write(&index, old).unwrap()).await;
    assert!(mirror.storage().join("index.redb.damaged").exists());
}

/// As of a storage from before there were facts beside the blobs.
#[tokio::test]
async fn an_index_without_facts_gets_them_at_the_start() {
    let (upstream, mirror, paths) = held().await;
    let lose_the_facts = |storage: &std::path::Path| std::fs::remove_dir_all(storage.join("facts")).unwrap();
    let mirror = serves_as_before(upstream, mirror, &paths, lose_the_facts).await;
    let before = answers(&mirror.client(), &paths).await;
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(answers(&mirror.client(), &paths).await, before);
}

#[tokio::test]
async fn facts_of_a_later_release_are_read_past() {
    let (upstream, mirror, paths) = held().await;
    serves_as_before(upstream, mirror, &paths, |storage| {
        lose_the_index(storage);
        let journal = storage.join("facts/journal-000000000001.jsonl");
        let mut text = std::fs::read_to_string(&journal).unwrap();
        // A kind and a field that this release does not know.
        text.push_str(&sealed(r#"{"put_moon":{"phase":3}}"#));
        let tag = text.lines().find(|line| line.contains(r#""tag":"1""#)).unwrap()[9..].to_owned();
        text.push_str(&sealed(&tag.replacen(r#""tag":"1""#, r#""tag":"1","signed_by":["moon"]"#, 1)));
        std::fs::write(&journal, text).unwrap();
    })
    .await;
}

/// An evicted blob is fetched again without a new proof of access.
#[tokio::test]
async fn grants_outlive_both_the_bytes_and_the_index() {
    let (upstream, mirror, paths) = held().await;
    let path = paths.iter().find(|path| path.contains("/blobs/")).unwrap().clone();
    let stopped = mirror.stop().await;
    let hex = path.split("sha256:").nth(1).unwrap().split('?').next().unwrap();
    let file = stopped.storage().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    std::fs::remove_file(&file).unwrap();
    lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    upstream.forget_requests();
    assert_eq!(mirror.client().get(&path).await.status, 200);
    let is_hit = async || mirror.client().head(&path).await.header("cache-status") == "roadstead; hit";
    super::eventually("it is stored again", is_hit).await;
    assert_eq!(upstream.requests_of(&blobs().head()).len(), 0, "and not proven again");
}

/// Security: a storage is only as trustworthy as who wrote its facts.
#[tokio::test]
async fn manifests_that_list_themselves_or_each_other_stop_nobody() {
    let (upstream, mirror, _) = held().await;
    let image = crate::support::image::image(&[blob(900, 77)]);
    upstream.publish("org/app", "3", &image);
    mirror.pull_whole("org/app", "3").await;
    let stopped = mirror.stop().await;
    let journal = files(&stopped, "journal-").remove(0);
    let (own, other) = (&image.digest, &image.layers()[0].digest);
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text += &sealed(&format!(r#"{{"put_children":{{"manifest":"{own}","children":["{own}","{other}"]}}}}"#));
    text += &sealed(&format!(r#"{{"put_children":{{"manifest":"{other}","children":["{own}"]}}}}"#));
    std::fs::write(&journal, text).unwrap();
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", upstream.url());
    let mirror = stopped.start_in("pins = [\"docker.io/**\"]", toml).await;
    // Pinned with all that it reaches, by the one task that writes, before it is granted here.
    upstream.publish("org/other", "1", &image);
    mirror.pull_whole("org/other", "1").await;
    // And facts are written on.
    let late = crate::support::image::image(&[blob(900, 78)]);
    upstream.publish("org/late", "1", &late);
    mirror.pull_whole("org/late", "1").await;
}
