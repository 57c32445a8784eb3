//! The journal itself: damage, torn ends, forms.

use roadstead::app::App;
use roadstead::clock::Clock;
use roadstead::config::Config;

use super::{answers, files, held, lose_the_index, sealed};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn a_damaged_line_costs_that_fact_only() {
    let (upstream, mirror, paths) = held().await;
    let before = answers(&mirror.client(), &paths).await;
    let stopped = mirror.stop().await;
    upstream.stop().await;
    lose_the_index(&stopped.storage());
    let journal = files(&stopped, "journal-").remove(0);
    let text = std::fs::read_to_string(&journal).unwrap();
    let tag = r#""authority":"docker.io","repository":"org/app"},"tag":"2""#;
    assert!(text.contains(tag), "{text}");
    std::fs::write(&journal, text.replace(tag, &tag.replace("\"2\"", "\"9\""))).unwrap();
    let mirror = stopped.start().await;
    let after = answers(&mirror.client(), &paths).await;
    let differing: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
    assert_eq!(differing, ["/v2/org/app/manifests/2?ns=docker.io"]);
    assert_eq!(mirror.client().get("/v2/org/app/manifests/9?ns=docker.io").await.status, 502, "not under another name");
}

#[tokio::test]
async fn behind_a_torn_end_facts_are_written_and_read() {
    let (upstream, mirror, paths) = held().await;
    let stopped = mirror.stop().await;
    let journal = files(&stopped, "journal-").remove(0);
    let mut text = std::fs::read_to_string(&journal).unwrap();
    let torn = sealed(r#"{"put_moon":{"phase":3}}"#);
    text.push_str(&torn[..20]);
    std::fs::write(&journal, text).unwrap();
    let mirror = stopped.start().await;
    let image = crate::support::image::image(&[blob(900, 77)]);
    upstream.publish("org/late", "1", &image);
    mirror.pull_whole("org/late", "1").await;
    let all: Vec<_> = paths.into_iter().chain(["/v2/org/late/manifests/1".to_owned()]).collect();
    super::serves_as_before(upstream, mirror, &all, lose_the_index).await;
}

/// A busy tag is checked every minute: its history is written down when it changes.
#[tokio::test]
async fn a_tag_that_did_not_move_takes_a_short_line() {
    let (_upstream, mirror, paths) = held().await;
    for _ in 0..3 {
        mirror.advance(std::time::Duration::from_mins(2));
        assert_eq!(mirror.client().get(&paths[0]).await.status, 200);
    }
    let stopped = mirror.stop().await;
    let text = std::fs::read_to_string(files(&stopped, "journal-").remove(0)).unwrap();
    let stamps: Vec<_> = text.lines().filter(|line| line.contains("stamp_tag")).collect();
    assert_eq!(stamps.len(), 3, "{text}");
    assert!(stamps.iter().all(|line| line.contains("checked") && !line.contains("history")), "{stamps:?}");
}

#[tokio::test]
async fn a_journal_in_the_form_of_a_later_release_is_refused_with_the_way_back() {
    let (_upstream, mirror, _) = held().await;
    let stopped = mirror.stop().await;
    lose_the_index(&stopped.storage());
    let journal = files(&stopped, "journal-").remove(0);
    std::fs::write(&journal, sealed(r#"{"roadstead_facts":2}"#)).unwrap();
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"off\"\n[storage]\npath = \"{}\"\n",
        stopped.storage().display()
    );
    let config = Config::read(Some(&toml), Vec::new()).unwrap();
    let refused = App::start(config, Clock::default()).await.err().expect("it does not start").to_string();
    assert!(refused.contains("newer release") && refused.contains("journal-000000000001"), "{refused}");
    assert!(!stopped.storage().join("index.redb").exists(), "nothing is made of it");
    assert!(journal.exists());
}

/// Clients make names up, and so does whoever scans.
#[tokio::test]
async fn lists_of_repositories_that_are_not_there_leave_nothing_in_the_journal() {
    let upstream = Upstream::start().await;
    upstream.publish("org/app", "1", &crate::support::image::image(&[blob(900, 77)]));
    let toml =
        format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"\n", upstream.url());
    let mirror = Mirror::start(toml).await;
    for nth in 0..20 {
        assert_eq!(mirror.client().get(&format!("/v2/made/up{nth}/tags/list")).await.status, 404);
    }
    let denial = upstream.script(every_request().always().status(403));
    assert_eq!(mirror.client().get("/v2/made/up/manifests/1").await.status, 403);
    denial.revoke();
    assert_eq!(mirror.client().get("/v2/org/app/tags/list").await.status, 200);
    upstream.script(every_request().always().status(404));
    assert_eq!(mirror.client().get("/v2/org/app/tags/list").await.status, 404);
    let stopped = mirror.stop().await;
    let journal = std::fs::read_to_string(files(&stopped, "journal-").remove(0)).unwrap();
    let dropped: Vec<_> = journal.lines().filter(|line| line.contains("{\"drop_")).collect();
    assert!(dropped.len() == 1 && dropped[0].contains("org/app"), "{dropped:?}");
}
