//! A fill outlives its process, and its bytes are not trusted for it.

use super::{eventually, mismatches, one, open, partial_files, path_in, path_of, quiet, rest, take};
use crate::support::mirror::{Mirror, Stopped, files_below};
use crate::support::upstream::*;

const SIZE: u64 = 1_000_000;
const STOP: u64 = 400_000;

fn starts(upstream: &Upstream) -> Vec<Option<u64>> {
    upstream.requests_of(&blobs().get()).iter().map(Recorded::range_start).collect()
}

/// Stopped in mid-fill, behind `STOP` bytes.
async fn stopped_in_mid_fill(upstream: &Upstream, digest: &str) -> Stopped {
    let gate = Gate::closed();
    upstream.script(blobs().get().unranged().once().stall_after(STOP, &gate));
    let mirror = Mirror::builder(one(upstream, "")).shutdown_deadline("100ms").start().await;
    let mut reader = open(&mirror.client(), &path_of(digest)).await;
    take(&mut reader, usize::try_from(STOP).unwrap()).await;
    let stopped = mirror.stop().await;
    assert!(!rest(&mut reader).await.1, "a reader is cut, not left waiting");
    upstream.forget_requests();
    stopped
}

fn partial_of(stopped: &Stopped) -> std::path::PathBuf {
    let partial = files_below(&stopped.storage().join("partial"));
    partial.into_iter().find(|path| path.extension().is_none()).expect("a partial file")
}

#[tokio::test]
async fn a_restart_in_mid_fill_goes_on_from_there() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    let mirror = stopped_in_mid_fill(&upstream, &digest).await.start().await;
    assert!(upstream.requests().is_empty(), "nobody has asked for it yet");
    let mut early = super::open_range(&mirror.client(), &path_of(&digest), "5-104").await;
    assert!(rest(&mut early).await == (content.slice(5, 105).to_vec(), true));
    assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes());
    assert_eq!((starts(&upstream), upstream.bytes_sent()), (vec![Some(STOP)], SIZE - STOP));
    eventually("nothing partial is left", async || partial_files(&mirror).is_empty()).await;
}

#[tokio::test]
async fn bytes_that_rotted_meanwhile_are_fetched_once_more_and_nobody_is_blamed() {
    for size in [SIZE, STOP + super::WITHHELD as u64] {
        let upstream = Upstream::start().await;
        let content = blob(size, 2);
        let digest = upstream.blob("library/app", &content);
        let stopped = stopped_in_mid_fill(&upstream, &digest).await;
        let partial = partial_of(&stopped);
        let mut bytes = std::fs::read(&partial).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(&partial, bytes).unwrap();
        let mirror = stopped.start().await;
        let client = mirror.client();
        let mut response = open(&client, &path_of(&digest)).await;
        let (given, complete) = rest(&mut response).await;
        assert!(!complete || given == content.to_bytes(), "what completes is right");
        assert!(client.get(&path_of(&digest)).await.body == content.to_bytes());
        assert_eq!((starts(&upstream), mismatches(&mirror)), (vec![Some(STOP), None], 0));
    }
}

/// As an upstream that reboots together with the mirror.
#[tokio::test]
async fn what_is_left_outlives_an_upstream_that_is_down() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 3);
    let digest = upstream.blob("library/app", &content);
    let mirror = stopped_in_mid_fill(&upstream, &digest).await.start().await;
    let client = mirror.client();
    upstream.script(blobs().get().ranged().times(2).status(503));
    assert_eq!(client.get(&path_of(&digest)).await.status, 502);
    quiet(&mirror).await;
    assert_eq!(client.get(&path_in("library/other", &digest)).await.status, 404, "nor does another's 404 cost it");
    quiet(&mirror).await;
    upstream.forget_requests();
    assert!(client.get(&path_of(&digest)).await.body == content.to_bytes());
    assert_eq!(upstream.bytes_sent(), SIZE - STOP);
}

#[tokio::test]
async fn an_upstream_that_cannot_give_the_rest_gives_the_whole() {
    let lies: [fn(Step) -> Step; 2] = [|step| step.status(416), |step| step.content_range("bytes 5-9/1000000")];
    for lie in lies {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 4);
        let digest = upstream.blob("library/app", &content);
        let mirror = stopped_in_mid_fill(&upstream, &digest).await.start().await;
        upstream.script(lie(blobs().get().ranged().once()));
        assert!(mirror.client().get(&path_of(&digest)).await.body == content.to_bytes(), "and no client notices");
        assert_eq!(starts(&upstream), [Some(STOP), None]);
    }
}

/// The bytes on disk are nobody's until this scope's upstream has said yes.
#[tokio::test]
async fn t9_what_is_left_is_not_given_to_a_scope_without_the_blob() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("library/app", blob(SIZE, 5));
    let stopped = stopped_in_mid_fill(&upstream, &digest).await;
    // Complete, but for the commit.
    let partial = partial_of(&stopped);
    std::fs::write(&partial, blob(SIZE, 5).to_bytes()).unwrap();
    std::fs::write(partial.with_extension("json"), format!("{{\"size_bytes\":{SIZE},\"synced_bytes\":{SIZE}}}"))
        .unwrap();
    let mirror = stopped.start().await;
    let denied = mirror.client().range(&path_in("corp/other", &digest), "0-9").await;
    assert_eq!((denied.status, denied.code()), (404, "BLOB_UNKNOWN".to_owned()));
    quiet(&mirror).await;
    upstream.forget_requests();
    assert_eq!(sha256(&mirror.client().get(&path_of(&digest)).await.body), digest);
    assert_eq!(upstream.bytes_sent(), 1, "one byte shows that upstream serves it here");
}
