//! What registries claim, and how fast they keep it, costs others nothing.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::{Builder as ImageBuilder, image};
use crate::support::mirror::{Mirror, files_below, quiet};
use crate::support::upstream::*;

const MIB: u64 = 1024 * 1024;

fn two(honest: &Upstream, hostile: &Upstream, keys: &str) -> String {
    let (honest, hostile) = (honest.url(), hostile.url());
    format!(
        "[upstreams.\"docker.io\"]\nurl = \"{honest}\"\n[upstreams.\"hostile.test\"]\nurl = \"{hostile}\"\n{keys}\n"
    )
}

fn path_at(authority: &str, digest: &str) -> String {
    format!("/v2/library/app/blobs/{digest}?ns={authority}")
}

async fn begin(client: &Client, authority: &str, digest: &str) -> reqwest::Response {
    client.open(http::Method::GET, &path_at(authority, digest), &[]).await.unwrap()
}

/// Reads to the end; `false` if the answer was cut.
async fn ends_well(mut response: reqwest::Response) -> bool {
    loop {
        match tokio::time::timeout(PATIENCE, response.chunk()).await.expect("the body goes on or ends") {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_cut) => return false,
        }
    }
}

/// Pulls so many blobs of a mebibyte from the honest registry.
async fn fill_up(honest: &Upstream, mirror: &Mirror, mebibytes: u64) {
    for seed in 0..mebibytes {
        let digest = honest.blob("library/app", blob(MIB, 1000 + seed));
        assert_eq!(mirror.client().get(&path_at("docker.io", &digest)).await.status, 200);
        quiet(mirror).await;
    }
}

fn blobs_stored(mirror: &Mirror) -> usize {
    files_below(&mirror.storage().join("blobs")).len()
}

async fn is_hit(mirror: &Mirror, authority: &str, digest: &str) -> bool {
    mirror.client().get(&path_at(authority, digest)).await.header("cache-status") == "roadstead; hit"
}

fn used(mirror: &Mirror) -> u64 {
    mirror.inner().cache().used_bytes()
}

fn running(mirror: &Mirror) -> f64 {
    mirror.metric(r#"roadstead_fills_running{authority="hostile.test"}"#)
}

#[tokio::test]
async fn t65_a_size_that_is_only_claimed_evicts_nothing_and_holds_little() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digest = hostile.blob("library/app", blob(10 * MIB, 1));
    let gate = Gate::closed();
    hostile.script(blobs().get().always().stall_after(100_000, &gate));
    let mirror = Mirror::builder(two(&honest, &hostile, "")).storage("max_size = \"12MiB\"").start().await;
    fill_up(&honest, &mirror, 8).await;
    let claimed = begin(&mirror.client(), "hostile.test", &digest).await;
    gate.arrived().await;
    assert!(used(&mirror) <= 9 * MIB, "the first mebibyte is set aside, no more");
    fill_up(&honest, &mirror, 9).await;
    assert_eq!(blobs_stored(&mirror), 9, "others go on, and nothing of them had to go");
    drop(claimed);
    gate.open();
    quiet(&mirror).await;
}

#[tokio::test]
async fn t65_what_is_not_proven_pushes_out_no_more_than_a_share_of_others() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digest = hostile.blob("library/app", blob(14 * MIB, 2));
    hostile.script(blobs().get().always().wrong_byte_at(14 * MIB - 1));
    let marks = "max_size = \"16MiB\"\nhigh_mark = \"100%\"\nlow_mark = \"99%\"";
    let mirror = Mirror::builder(two(&honest, &hostile, "")).storage(marks).start().await;
    fill_up(&honest, &mirror, 15).await;
    assert!(!ends_well(begin(&mirror.client(), "hostile.test", &digest).await).await);
    quiet(&mirror).await;
    assert!(blobs_stored(&mirror) >= 7, "{} of 15 are left", blobs_stored(&mirror));
}

#[tokio::test]
async fn t65_a_download_that_earns_nothing_gives_its_room_back() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digest = hostile.blob("library/app", blob(10 * MIB, 3));
    hostile.throttle(500);
    let toml = two(&honest, &hostile, "idle_timeout = \"1s\"");
    let mirror = Mirror::builder(toml).storage("max_size = \"100MiB\"").start().await;
    let _reading = begin(&mirror.client(), "hostile.test", &digest).await;
    assert!(used(&mirror) >= 10 * MIB, "there is plenty of room");
    eventually("it is given back", async || used(&mirror) < MIB).await;
    assert!(running(&mirror) > 0.0, "the download goes on");
}

#[tokio::test]
async fn t66_what_one_registry_cannot_have_stored_is_stored_for_another() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let content = blob(MIB, 4);
    let digest = honest.blob("library/app", &content);
    hostile.blob("library/app", &content);
    let small = two(&honest, &hostile, "max_size = \"100KiB\"");
    for lies in [true, false] {
        if lies {
            hostile.script(blobs().always().content(content.with_size(1 << 40)));
        } else {
            hostile.clear_script();
        }
        let toml = if lies { two(&honest, &hostile, "") } else { small.clone() };
        let mirror = Mirror::builder(toml).storage("max_size = \"1GiB\"").start().await;
        drop(begin(&mirror.client(), "hostile.test", &digest).await);
        quiet(&mirror).await;
        assert!(mirror.metric(r#"roadstead_reservations_refused_total{authority="hostile.test"}"#) > 0.0);
        assert!(mirror.client().get(&path_at("docker.io", &digest)).await.body == content.to_bytes());
        quiet(&mirror).await;
        assert!(is_hit(&mirror, "docker.io", &digest).await, "lies: {lies}");
    }
}

#[tokio::test]
async fn t67_a_client_that_does_not_read_gives_its_place_to_one_that_waits() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digests: Vec<_> = (0..2).map(|seed| hostile.blob("library/app", blob(128 * MIB, 50 + seed))).collect();
    let content = blob(MIB, 52);
    let small = hostile.blob("library/app", &content);
    let toml = two(&honest, &hostile, "max_connections = 2\nidle_timeout = \"1s\"");
    let mirror = Mirror::builder(toml).storage("max_size = \"10KiB\"").start().await;
    let mut stalled = Vec::new();
    for digest in &digests {
        stalled.push(begin(&mirror.client(), "hostile.test", digest).await);
    }
    assert!(mirror.client().get(&path_at("hostile.test", &small)).await.body == content.to_bytes());
    let mut whole = 0;
    for response in stalled {
        whole += u32::from(ends_well(response).await);
    }
    assert_eq!(whole, 1, "one of the two was enough");
}

#[tokio::test]
async fn t68_a_registry_that_shows_other_bytes_has_the_stored_ones_read_once_a_minute() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let content = blob(MIB, 40);
    let digest = honest.blob("library/app", &content);
    let mirror = Mirror::start(two(&honest, &hostile, "")).await;
    assert!(mirror.client().get(&path_at("docker.io", &digest)).await.body == content.to_bytes());
    quiet(&mirror).await;
    let ask = async |nth: usize| {
        let repository = format!("made-up/{nth}");
        hostile.blob_as(&repository, &digest, blob(MIB, 41));
        mirror.client().get(&format!("/v2/{repository}/blobs/{digest}?ns=hostile.test")).await.status
    };
    assert_eq!(ask(0).await, 502);
    // The file is not read: what is wrong with it would be found.
    let file = files_below(&mirror.storage().join("blobs")).remove(0);
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, vec![7; 1024 * 1024]).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
    for nth in 1..4 {
        assert_eq!(ask(nth).await, 502);
    }
    assert!(file.exists(), "it was read within the minute");
    mirror.advance(Duration::from_mins(1));
    // It is wrong indeed: what the registry shows is downloaded, and is no better.
    let path = format!("/v2/made-up/1/blobs/{digest}?ns=hostile.test");
    assert!(!ends_well(mirror.client().open(http::Method::GET, &path, &[]).await.unwrap()).await);
    assert_eq!(files_below(&mirror.storage().join("quarantine")).len(), 1, "it is read again later");
}

#[tokio::test]
async fn t69_what_breaks_after_a_byte_leaves_no_more_files_than_are_of_use() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    hostile.script(blobs().get().unranged().always().cut_after(1));
    hostile.script(blobs().get().ranged().always().status(404));
    let toml = two(&honest, &hostile, "breaker_window = \"1ms\"");
    let mirror = Mirror::start(toml).await;
    let large = hostile.blob("library/app", blob(MIB, 30));
    hostile.script(blobs().get().unranged().reference(&large).always().cut_after(200_000));
    for seed in 0..300 {
        let digest = if seed == 7 { large.clone() } else { hostile.blob("library/app", blob(70_000, 1000 + seed)) };
        ends_well(begin(&mirror.client(), "hostile.test", &digest).await).await;
    }
    quiet(&mirror).await;
    let files = |mirror: &Mirror| files_below(&mirror.storage().join("partial"));
    assert!((1..=2 * 256).contains(&files(&mirror).len()), "{}", files(&mirror).len());
    let is_there = |mirror: &Mirror| files(mirror).iter().any(|file| large.ends_with(&file_end(file)));
    assert!(is_there(&mirror), "what has most bytes stays");
    let mirror = mirror.restart().await;
    assert!(is_there(&mirror) && files(&mirror).len() <= 2 * 256);
}

fn file_end(file: &std::path::Path) -> String {
    file.file_name().unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_owned()
}

#[tokio::test]
async fn t67_a_download_that_crawls_gives_its_place_to_one_that_waits() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digests: Vec<_> = (0..2).map(|seed| hostile.blob("library/app", blob(MIB, 10 + seed))).collect();
    let small = hostile.blob("library/app", "small");
    hostile.throttle(500);
    let toml = two(&honest, &hostile, "max_connections = 2\nsegments = 1\nidle_timeout = \"1s\"");
    let mirror = Mirror::start(toml).await;
    let mut reading = Vec::new();
    for digest in &digests {
        reading.push(tokio::spawn(ends_well(begin(&mirror.client(), "hostile.test", digest).await)));
    }
    let waited = mirror.client().get(&path_at("hostile.test", &small)).await;
    assert_eq!((waited.status, &*waited.body), (200, &b"small"[..]), "{}", waited.text());
    eventually("one was cut", async || reading.iter().any(tokio::task::JoinHandle::is_finished)).await;
    assert!(!reading.iter().all(tokio::task::JoinHandle::is_finished), "the other one goes on");
}

#[tokio::test]
async fn t67_a_download_that_crawls_and_that_nobody_reads_ends_and_is_gone_on_with() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let content = blob(MIB, 20);
    let digest = hostile.blob("library/app", &content);
    hostile.throttle(500);
    let mirror = Mirror::start(two(&honest, &hostile, "idle_timeout = \"1s\"")).await;
    drop(begin(&mirror.client(), "hostile.test", &digest).await);
    eventually("it has ended", async || running(&mirror) == 0.0).await;
    hostile.throttle(0);
    hostile.forget_requests();
    assert!(mirror.client().get(&path_at("hostile.test", &digest)).await.body == content.to_bytes());
    let starts: Vec<_> = hostile.requests_of(&blobs().get()).iter().filter_map(Recorded::range_start).collect();
    assert!(starts.first().is_some_and(|start| *start > 0), "{starts:?}");
}

#[tokio::test]
async fn t67_of_a_manifest_with_many_blobs_ten_begin_ahead_and_none_wait_in_line() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let layers: Vec<_> = (0..60).map(|seed| blob(MIB, 100 + seed)).collect();
    hostile.publish("library/app", "1", &image(&layers));
    hostile.throttle(2000);
    let mirror = Mirror::start(two(&honest, &hostile, "complete = \"image\"\nsegments = 1")).await;
    let status = mirror.client().get("/v2/library/app/manifests/1?ns=hostile.test").await.status;
    assert_eq!(status, 200);
    eventually("some begin", async || running(&mirror) >= 10.0).await;
    // What came later has its turn behind the others of the first one.
    let later = image(&[blob(MIB, 99)]);
    hostile.publish("library/app", "2", &later);
    assert_eq!(mirror.client().get("/v2/library/app/manifests/2?ns=hostile.test").await.status, 200);
    eventually("the later one begins", async || hostile.gets_of(&later.layers()[0].digest) > 0).await;
    let of_later = hostile.gets_of(&later.layers()[0].digest) + hostile.gets_of(&later.config().digest);
    assert_eq!(hostile.requests_of(&blobs().get()).len() - of_later, 10);
}

#[tokio::test]
async fn t67_downloads_that_no_client_waits_for_end_for_those_of_others_whatever_their_rate() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let layers: Vec<_> = (0..6).map(|seed| blob(MIB, 100 + seed)).collect();
    hostile.publish("library/app", "1", &image(&layers));
    // Well above a kibibyte per second, and far from any end.
    hostile.throttle(5000);
    let toml = two(&honest, &hostile, "complete = \"image\"\nsegments = 1");
    let mirror = Mirror::builder(toml).server("max_fills = 6").start().await;
    assert_eq!(mirror.client().get("/v2/library/app/manifests/1?ns=hostile.test").await.status, 200);
    eventually("they have their places", async || running(&mirror) >= 4.0).await;
    let pulls = (0..8).map(|seed| {
        let digest = honest.blob("library/app", blob(MIB, 1000 + seed));
        let client = mirror.client();
        tokio::spawn(async move { client.get(&path_at("docker.io", &digest)).await.status })
    });
    for pull in pulls.collect::<Vec<_>>() {
        assert_eq!(pull.await.unwrap(), 200);
    }
    for layer in &layers {
        let digest = layer.sha256().parse().unwrap();
        assert!(mirror.inner().cache().store.stamp(digest).await.unwrap().is_none(), "it did not end by itself");
    }
}

#[tokio::test]
async fn t67_a_full_line_of_others_does_not_turn_away_who_has_few_waiting() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let digests: Vec<_> = (0..40).map(|seed| hostile.blob("library/app", blob(MIB, 10 + seed))).collect();
    hostile.throttle(2000);
    // One line takes no more than half: the other half is for another that crawls.
    let toml = format!(
        "{}\n[upstreams.\"other.test\"]\nurl = \"{}\"\n",
        two(&honest, &hostile, "max_connections = 3"),
        hostile.url()
    );
    let server = "max_fills = 8\nmax_waiting_fills = 16";
    let mirror = Mirror::builder(toml).server(server).start().await;
    let mut crawling = Vec::new();
    for (nth, digest) in digests.iter().enumerate() {
        let authority = if nth % 2 == 0 { "hostile.test" } else { "other.test" };
        let (client, path) = (mirror.client(), path_at(authority, digest));
        crawling.push(tokio::spawn(async move { client.get(&path).await.status }));
    }
    mirror.wait_for_requests_in_flight(16).await;
    let turned_away = async || crawling.iter().any(tokio::task::JoinHandle::is_finished);
    eventually("the line is full", turned_away).await;
    let pulls = (0..4).map(|seed| {
        let digest = honest.blob("library/app", blob(MIB, 1000 + seed));
        let client = mirror.client();
        tokio::spawn(async move { client.get(&path_at("docker.io", &digest)).await.status })
    });
    for pull in pulls.collect::<Vec<_>>() {
        assert_eq!(pull.await.unwrap(), 200);
    }
    crawling.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn t51_manifests_stay_within_their_registrys_own_limit_and_push_out_no_others() {
    let (honest, hostile) = (Upstream::start().await, Upstream::start().await);
    let subject = image(&[blob(10, 1)]);
    let toml = two(&honest, &hostile, "max_size = \"2MiB\"");
    let mirror = Mirror::builder(toml).storage("max_size = \"8MiB\"").start().await;
    fill_up(&honest, &mirror, 5).await;
    let mut refusals = 0.0;
    for seed in 0..12 {
        let layer = blob(10, 100 + seed);
        let referrer = ImageBuilder::new().subject(&subject).padding(600_000).layer(layer).build();
        hostile.put_referrer("library/app", &referrer);
        let path = format!("/v2/library/app/manifests/{}?ns=hostile.test", referrer.digest);
        assert_eq!(mirror.client().get(&path).await.status, 200);
        let refused = "roadstead_reservations_refused_total{authority=\"hostile.test\"}";
        let digest = referrer.digest.parse().unwrap();
        eventually("it is stored, or refused", async || {
            let stored = mirror.inner().cache().store.stamp(digest).await.unwrap();
            stored.is_some() || mirror.metric(refused) > refusals
        })
        .await;
        refusals = mirror.metric(refused);
    }
    let used = mirror.inner().cache().store.used_by(&"hostile.test".parse().unwrap());
    assert!(used > MIB && used <= 2 * MIB, "{used}");
    for seed in 0..5 {
        assert!(is_hit(&mirror, "docker.io", &blob(MIB, 1000 + seed).sha256()).await);
    }
}
