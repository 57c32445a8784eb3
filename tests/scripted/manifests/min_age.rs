//! A moved tag stays at its older digest until the new one is old enough.

use std::time::Duration;

use super::upstream;
use crate::looking::{api, over_socket};
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const DAY: Duration = Duration::from_hours(24);
const PATH: &str = "/v2/org/app/manifests/1";

struct Moved {
    registry: Upstream,
    mirror: Mirror,
    old: Image,
    new: Image,
}

/// A tag that was pulled, and has moved since.
async fn moved(keys: &str) -> Moved {
    let registry = Upstream::start().await;
    let (old, new) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    registry.publish("org/app", "1", &old);
    let mirror = Mirror::start(upstream("docker.io", &registry, keys)).await;
    assert_eq!(mirror.client().get(PATH).await.body, old.manifest);
    registry.publish("org/app", "1", &new);
    mirror.advance(DAY);
    Moved { registry, mirror, old, new }
}

fn is_held_back(answer: &Answer, newer: &Image) -> bool {
    answer.status == 200
        && answer.header("warning").contains(&format!("held back by min_age: the tag is now {}", newer.digest))
        && answer.header("cache-status").contains("the newer digest is too young")
}

#[tokio::test]
async fn t113_a_moved_tag_stays_at_its_older_digest_until_the_new_one_was_seen_for_min_age() {
    let Moved { registry, mirror, old, new } = moved("min_age = \"3d\"").await;
    let client = mirror.client();
    for _ask in 0..2 {
        let answer = client.get(PATH).await;
        assert!(is_held_back(&answer, &new) && answer.body == old.manifest, "{:?}", answer.headers);
        assert!(is_held_back(&client.head(PATH).await, &new), "fresh, too");
    }
    assert_eq!(client.get(&format!("/v2/org/app/manifests/{}", new.digest)).await.status, 200, "by digest it is given");
    let tags = api(&mirror, "tags?repository=org/app").await.1;
    let row = &tags["tags"][0];
    assert_eq!((&row["digest"], &row["waiting"]["digest"]), (&old.digest.into(), &new.digest.clone().into()), "{tags}");
    // The time counts from when it was first seen, over restarts and a lost index.
    mirror.advance(2 * DAY);
    let stopped = mirror.stop().await;
    crate::facts::lose_the_index(&stopped.storage());
    let mirror = stopped.start().await;
    assert!(is_held_back(&mirror.client().get(PATH).await, &new));
    mirror.advance(DAY);
    let answer = mirror.client().get(PATH).await;
    assert_eq!((answer.body, answer.headers.contains_key("warning")), (new.manifest, false));
    let count = |result: &str| {
        mirror.metric(&format!(r#"roadstead_young_tags_total{{authority="docker.io",result="{result}"}}"#))
    };
    assert_eq!((count("held_back"), count("taken")), (0.0, 1.0), "it was told of once, in the life before");
    drop(registry);
}

#[tokio::test]
async fn a_digest_that_upstream_does_not_name_any_more_does_not_get_old() {
    let Moved { registry, mirror, old, new } = moved("min_age = \"3d\"").await;
    let newest = image(&[blob(10, 3)]);
    assert!(is_held_back(&mirror.client().get(PATH).await, &new));
    mirror.advance(2 * DAY);
    registry.publish("org/app", "1", &newest);
    assert!(is_held_back(&mirror.client().get(PATH).await, &newest));
    mirror.advance(2 * DAY);
    let answer = mirror.client().get(PATH).await;
    assert!(is_held_back(&answer, &newest) && answer.body == old.manifest);
    registry.publish("org/app", "1", &old);
    mirror.advance(DAY);
    let answer = mirror.client().get(PATH).await;
    assert_eq!((answer.body, answer.headers.contains_key("warning")), (old.manifest, false), "it was taken back");
}

#[tokio::test]
async fn a_tag_that_was_never_seen_is_given_at_once() {
    let Moved { registry, mirror, new, .. } = moved("min_age = \"3d\"").await;
    registry.publish("org/app", "2", &new);
    let answer = mirror.client().get("/v2/org/app/manifests/2").await;
    assert_eq!((answer.body, answer.headers.contains_key("warning")), (new.manifest, false));
}

#[tokio::test]
async fn a_tag_that_is_held_back_is_served_in_an_outage() {
    let Moved { registry, mirror, old, new } = moved("min_age = \"3d\"").await;
    mirror.pull_whole("org/app", "1").await;
    assert!(is_held_back(&mirror.client().get(PATH).await, &new));
    registry.stop().await;
    mirror.advance(5 * DAY);
    let answer = mirror.client().get(PATH).await;
    assert_eq!((answer.status, answer.body), (200, old.manifest), "nobody has said that it is still the tag's");
}

#[tokio::test]
async fn t113_an_older_digest_that_is_nowhere_any_more_does_not_let_the_young_one_through() {
    let Moved { registry, mirror, old, .. } = moved("min_age = \"3d\"").await;
    let order = serde_json::json!({ "references": [old.digest] });
    assert_eq!(over_socket(&mirror, "POST", "remove", &order).await.0, 200);
    let answer = mirror.client().get(PATH).await;
    assert_eq!((answer.status, answer.body), (200, old.manifest.clone()), "its registry still has it");
    let remove = async || over_socket(&mirror, "POST", "remove", &order).await.1["failed"] == 0;
    eventually("it is stored again, and goes again", remove).await;
    registry.script(manifests().reference(&old.digest).always().status(404));
    mirror.advance(DAY);
    assert_eq!(mirror.client().get(PATH).await.status, 404);
    mirror.advance(3 * DAY);
    assert_eq!(mirror.client().get(PATH).await.status, 200, "the new one is old by now");
}

#[tokio::test]
async fn audit_lets_tags_move_and_counts_them() {
    let Moved { registry: _registry, mirror, new, .. } = moved("min_age = \"3d\"\nmin_age_mode = \"audit\"").await;
    for _ask in 0..2 {
        let answer = mirror.client().get(PATH).await;
        assert_eq!((&answer.body, answer.headers.contains_key("warning")), (&new.manifest, false));
    }
    assert_eq!(mirror.metric(r#"roadstead_young_tags_total{authority="docker.io",result="audit"}"#), 1.0);
}

#[tokio::test]
async fn an_operator_takes_the_young_digest_by_refresh_now_or_by_a_pin() {
    let Moved { registry: _registry, mirror, new, .. } = moved("min_age = \"3d\"").await;
    let glob = |now: bool| serde_json::json!({ "globs": ["docker.io/org/app:1"], "now": now });
    let held = over_socket(&mirror, "POST", "refresh", &glob(false)).await.1;
    assert_eq!((&held["items"][0]["outcome"], &held["failed"]), (&"held".into(), &0.into()), "{held}");
    assert!(held["items"][0]["problem"].as_str().unwrap().contains(&new.digest), "{held}");
    let taken = over_socket(&mirror, "POST", "refresh", &glob(true)).await.1;
    assert_eq!(taken["items"][0]["outcome"], "done", "{taken}");
    assert_eq!(mirror.client().get(PATH).await.body, new.manifest);

    let Moved { registry: _registry, mirror, new, .. } = moved("min_age = \"3d\"").await;
    assert!(is_held_back(&mirror.client().get(PATH).await, &new));
    let pin = format!("pins?pin=docker.io/org/app:1@{}", new.digest);
    assert_eq!(over_socket(&mirror, "POST", &pin, &serde_json::Value::Null).await.0, 200);
    assert_eq!(mirror.client().get(PATH).await.body, new.manifest);
}

#[tokio::test]
async fn the_first_cooldown_rule_that_matches_decides() {
    let rules = "min_age = \"3d\"\n[[upstreams.\"docker.io\".cooldown]]\nmatch = \"org/*\"\ntag = \"nightly\"\nmin_age = \"0s\"\n\
                 [[upstreams.\"docker.io\".cooldown]]\nmatch = \"org/free\"\nmin_age_mode = \"audit\"";
    let registry = Upstream::start().await;
    let (old, new) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    let tags =
        [("org/app", "1", &old), ("org/app", "nightly", &new), ("org/free", "1", &new), ("library/other", "1", &old)];
    for (repository, tag, _) in tags {
        registry.publish(repository, tag, &old);
    }
    let mirror = Mirror::start(upstream("docker.io", &registry, rules)).await;
    for (repository, tag, _) in tags {
        assert_eq!(mirror.client().get(&format!("/v2/{repository}/manifests/{tag}")).await.status, 200);
        registry.publish(repository, tag, &new);
    }
    mirror.advance(DAY);
    for (repository, tag, expected) in tags {
        let answer = mirror.client().get(&format!("/v2/{repository}/manifests/{tag}")).await;
        assert_eq!(answer.body, expected.manifest, "{repository}:{tag}");
    }
}
