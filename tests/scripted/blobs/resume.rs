//! A broken upstream connection is not a broken pull: announced bytes stay, the rest is asked for by Range.

use http::Method;

use super::{mismatches, one, open, partial_files, path_of, quiet, rest, take};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const SIZE: u64 = 1_000_000;
const BREAK: u64 = 400_000;

fn starts(upstream: &Upstream) -> Vec<Option<u64>> {
    upstream.requests_of(&blobs().get()).iter().map(Recorded::range_start).collect()
}

#[tokio::test]
async fn a_download_goes_on_where_its_connection_broke() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 1);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().once().cut_after(BREAK));
    upstream.script(blobs().get().once().cut_after(100));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    assert_eq!(starts(&upstream), [None, Some(BREAK), Some(BREAK + 100)]);
    assert_eq!((upstream.bytes_sent_of(&digest), mismatches(&mirror)), (SIZE, 0));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_resumed_on_a_new_connection() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 2);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().once().hang_after(BREAK));
    let mirror = Mirror::start(one(&upstream, "idle_timeout = \"300ms\"")).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    assert_eq!(starts(&upstream), [None, Some(BREAK)]);
}

#[tokio::test]
async fn the_next_endpoint_sends_the_rest_and_the_hash_carries_on() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let content = blob(SIZE, 3);
    let digest = first.blob("library/app", &content);
    second.blob("library/app", &content);
    first.script(blobs().get().once().cut_after(BREAK));
    let toml = format!("[upstreams.\"docker.io\"]\nendpoints = [\"{}\", \"{}\"]\n", first.url(), second.url());
    let mirror = Mirror::start(toml).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    assert_eq!((starts(&first), starts(&second)), (vec![None], vec![Some(BREAK)]));
}

/// Signed URLs expire, so the registry is asked for a new one.
#[tokio::test]
async fn a_resumed_download_asks_the_registry_for_its_redirect_anew() {
    let (registry, cdn) = (Upstream::start().await, Upstream::start().await);
    let content = blob(SIZE, 4);
    let digest = registry.blob("library/app", &content);
    for signature in ["first", "second"] {
        cdn.file(&format!("/cdn/{signature}"), &content);
        registry.script(blobs().get().once().redirect(&format!("{}/cdn/{signature}", cdn.url())));
    }
    cdn.script(files().get().once().cut_after(BREAK));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    let asked: Vec<_> =
        cdn.requests().into_iter().map(|request| (request.path.clone(), request.range_start())).collect();
    assert_eq!(asked, [("/cdn/first".to_owned(), None), ("/cdn/second".to_owned(), Some(BREAK))]);
}

#[tokio::test]
async fn an_upstream_that_ignores_range_is_read_again_and_compared() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 5);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().unranged().once().cut_after(BREAK));
    upstream.script(blobs().get().ranged().once().ignore_range());
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let answer = mirror.client().get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    assert_eq!(upstream.gets_of(&digest), 2);
}

/// Announced bytes are never rewritten: readers that have some of them are cut, and the next reader gets the true bytes.
#[tokio::test]
async fn a_restart_that_differs_from_what_was_announced_cuts_the_readers_and_starts_anew() {
    let upstream = Upstream::start().await;
    // Much more follows than a pipe holds: the download must not wait for someone to take it.
    let size = 64 * SIZE;
    let content = blob(size, 6);
    let digest = upstream.blob("library/app", &content);
    // The lie comes first: what follows it differs, and is right.
    upstream.script(blobs().get().unranged().once().wrong_byte_at(1000).cut_after(BREAK));
    let gate = Gate::closed();
    upstream.script(blobs().get().ranged().once().ignore_range().stall_before_headers(&gate));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut first = open(&mirror.client(), &path_of(&digest)).await;
    let given = take(&mut first, usize::try_from(BREAK).unwrap()).await;
    gate.open();
    assert_eq!(rest(&mut first).await, (Vec::new(), false));
    assert_eq!(given, content.with_wrong_byte(1000).slice(0, BREAK), "and it is not changed under the reader");
    let second = mirror.client().get(&path_of(&digest)).await;
    assert!(second.body == content.to_bytes());
    assert_eq!(starts(&upstream), [None, Some(BREAK), None]);
    assert_eq!(mismatches(&mirror), 0, "nobody can tell which answer was the lie");
}

#[tokio::test]
async fn a_rest_that_is_not_the_range_asked_for_is_never_spliced() {
    let lies: [fn(Step) -> Step; 3] = [
        |step| step.content_range("bytes 0-599999/1000000"),
        |step| step.without_header("content-range"),
        |step| step.status(416),
    ];
    for lie in lies {
        let upstream = Upstream::start().await;
        let content = blob(SIZE, 7);
        let digest = upstream.blob("library/app", &content);
        upstream.script(blobs().get().unranged().once().cut_after(BREAK));
        upstream.script(lie(blobs().get().ranged().once()));
        let mirror = Mirror::of("docker.io", upstream.url()).await;
        let mut first = open(&mirror.client(), &path_of(&digest)).await;
        let (given, complete) = rest(&mut first).await;
        assert!(!complete && given == content.slice(0, given.len() as u64));
        let second = mirror.client().get(&path_of(&digest)).await;
        assert!(second.body == content.to_bytes());
        assert_eq!(starts(&upstream), [None, Some(BREAK), None]);
    }
}

#[tokio::test]
async fn a_size_that_changes_between_two_answers_starts_the_download_anew() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 8);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().unranged().once().truncated_to(700_000).cut_after(BREAK));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let mut first = open(&mirror.client(), &path_of(&digest)).await;
    assert_eq!(first.content_length(), Some(700_000));
    assert!(!rest(&mut first).await.1);
    let second = mirror.client().get(&path_of(&digest)).await;
    assert!(second.body == content.to_bytes());
}

/// A partial file waits for the next request, from any client and after any failure.
#[tokio::test]
async fn a_download_that_had_to_give_up_is_taken_up_by_the_next_request() {
    let upstream = Upstream::start().await;
    let content = blob(SIZE, 9);
    let digest = upstream.blob("library/app", &content);
    upstream.script(blobs().get().unranged().once().cut_after(BREAK));
    upstream.script(blobs().get().ranged().times(2).status(404));
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    let client = mirror.client();
    assert!(client.try_get(&path_of(&digest)).await.is_err(), "cut");
    quiet(&mirror).await;
    let elsewhere = client.get(&super::path_in("library/other", &digest)).await;
    assert_eq!(elsewhere.status, 404, "not in that repository");
    quiet(&mirror).await;
    assert_eq!(partial_files(&mirror).len(), 2, "the bytes and their sidecar");
    let answer = client.get(&path_of(&digest)).await;
    assert!(answer.body == content.to_bytes());
    assert_eq!(starts(&upstream), [None, Some(BREAK), Some(BREAK), Some(BREAK)]);
    assert_eq!(upstream.bytes_sent_of(&digest).saturating_sub(SIZE), error_bytes(&upstream));
}

/// Bodies of the answers that were errors.
fn error_bytes(upstream: &Upstream) -> u64 {
    let errors = upstream.requests().into_iter().filter(|request| request.method == Method::GET);
    errors.filter(|request| request.status() == Some(404)).map(|request| request.sent()).sum()
}
