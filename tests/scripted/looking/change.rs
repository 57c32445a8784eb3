//! Changing what is held: removing, evicting, refreshing, pinning a tag to a digest.

use std::time::Duration;

use serde_json::{Value, json};

use super::{SHARED, Site, api, bytes, over_socket, roadstead, stdout, told};
use crate::operations::program::stderr;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// What `rm` tells of its items, and its result.
async fn rm(mirror: &Mirror, order: Value) -> (Vec<Value>, u64) {
    let (status, done) = over_socket(mirror, "POST", "remove", &order).await;
    assert_eq!(status, 200, "{done}");
    (done["items"].as_array().unwrap().clone(), done["failed"].as_u64().unwrap())
}

async fn held(mirror: &Mirror) -> u64 {
    api(mirror, "usage").await.1["stored_bytes"].as_u64().unwrap()
}

async fn outcome(mirror: &Mirror, path: &str) -> String {
    let answer = mirror.client().get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.header("cache-status").to_owned()
}

#[tokio::test]
async fn a_tag_goes_with_what_only_it_needs_and_the_next_pull_fetches_it_again() {
    let site = Site::start().await;
    let mirror = &site.mirror;
    let all = held(mirror).await;
    let own = bytes(&site.tool) - SHARED;
    let (dry, failed) = rm(mirror, json!({ "references": ["org/tool:latest"], "dry_run": true })).await;
    assert_eq!((&dry[0]["outcome"], &dry[0]["bytes"], failed), (&"done".into(), &own.into(), 0), "{dry:?}");
    assert_eq!(dry[0]["tags"], json!(["latest"]));
    assert_eq!(held(mirror).await, all, "nothing was done");
    let (gone, _) = rm(mirror, json!({ "references": ["org/tool:latest"] })).await;
    assert_eq!(
        (&gone[0]["outcome"], &gone[0]["bytes"], &gone[0]["problem"]),
        (&"done".into(), &own.into(), &Value::Null),
        "{gone:?}"
    );
    // A file that was stored a moment ago gives its space back a moment later.
    eventually("the shared layer stays, and no more", async || held(mirror).await == all - own).await;
    let (again, failed) = rm(mirror, json!({ "references": ["org/tool:latest"] })).await;
    assert_eq!((&again[0]["outcome"], failed), (&"missing".into(), 1));
    assert_eq!(outcome(mirror, "/v2/org/tool/manifests/latest").await, "roadstead; fwd=miss; stored");
    let layer = &site.amd64.layers()[0].digest;
    assert_eq!(outcome(mirror, &format!("/v2/org/app/blobs/{layer}")).await, "roadstead; hit");
}

#[tokio::test]
async fn a_manifest_that_another_tag_or_index_needs_stays() {
    let site = Site::start().await;
    let mirror = &site.mirror;
    let all = held(mirror).await;
    let (gone, _) = rm(mirror, json!({ "references": ["org/app:amd64"] })).await;
    assert_eq!((&gone[0]["outcome"], &gone[0]["bytes"]), (&"done".into(), &0.into()), "the index lists it: {gone:?}");
    assert_eq!(held(mirror).await, all);
    let tags = api(mirror, "tags?repository=org/app").await.1;
    assert_eq!((tags["tags"].as_array().unwrap().len(), &tags["tags"][0]["platforms"]), (1, &json!(["linux/amd64"])));
    let (gone, _) = rm(mirror, json!({ "references": [format!("org/app@{}", &site.app.digest[..20])] })).await;
    let own = site.app.manifest.len() as u64 + bytes(&site.amd64) - SHARED;
    assert_eq!((&gone[0]["bytes"], &gone[0]["tags"]), (&own.into(), &json!(["1"])), "{gone:?}");
    assert_eq!(api(mirror, "tags?repository=org/app").await.0, 404);
}

#[tokio::test]
async fn a_repository_goes_whole_and_others_keep_what_they_share() {
    let site = Site::start().await;
    let mirror = site.mirror;
    let (gone, _) = rm(&mirror, json!({ "references": ["org/app", "org/none", "quay.io/x", "A"] })).await;
    let outcomes: Vec<&Value> = gone.iter().map(|item| &item["outcome"]).collect();
    assert_eq!(outcomes, ["done", "missing", "refused", "refused"], "{gone:?}");
    assert_eq!(held(&mirror).await, bytes(&site.tool));
    let found = api(&mirror, "repositories").await.1;
    assert_eq!(
        (&found["total"], &found["repositories"][0]["own_bytes"]),
        (&1.into(), &bytes(&site.tool).into()),
        "{found}"
    );
    let mirror = mirror.restart().await;
    assert_eq!(api(&mirror, "repositories").await.1["total"], 1, "it does not come back");
    mirror.pull_whole("org/tool", "latest").await;
}

#[tokio::test]
async fn what_a_pin_keeps_goes_only_by_force() {
    let site = Site::start().await;
    let mirror = &site.mirror;
    over_socket(mirror, "POST", "pins?pin=docker.io/org/tool:latest", &Value::Null).await;
    let layer = &site.tool.layers()[1].digest;
    for reference in ["org/tool:latest", "org/tool", &format!("org/tool@{}", site.tool.digest), layer] {
        let (refused, failed) = rm(mirror, json!({ "references": [reference] })).await;
        assert_eq!((&refused[0]["outcome"], failed), (&"refused".into(), 1), "{reference}: {refused:?}");
        assert!(refused[0]["problem"].as_str().unwrap().contains("pin"), "{refused:?}");
    }
    mirror.pull_whole("org/tool", "latest").await;
    let (gone, _) = rm(mirror, json!({ "references": ["org/tool:latest"], "force": true })).await;
    assert_eq!(
        (&gone[0]["outcome"], &gone[0]["bytes"]),
        (&"done".into(), &(bytes(&site.tool) - SHARED).into()),
        "{gone:?}"
    );
    assert_eq!(api(mirror, "usage").await.1["unreachable_bytes"], 0);
}

#[tokio::test]
async fn a_blob_goes_alone_and_last_copies_are_told() {
    let site = Site::start().await;
    let layer = site.tool.layers()[1].digest.clone();
    let (gone, _) = rm(&site.mirror, json!({ "references": [&layer[..25]] })).await;
    assert_eq!((&gone[0]["bytes"], &gone[0]["last_copy_bytes"]), (&500.into(), &0.into()), "{gone:?}");
    assert_eq!(outcome(&site.mirror, &format!("/v2/org/tool/blobs/{layer}")).await, "roadstead; fwd=miss; stored");
    crate::support::mirror::quiet(&site.mirror).await;
    let offline = "[upstreams.\"docker.io\"]\noffline = true\n";
    let mirror = site.mirror.stop().await.start_with(offline).await;
    let (gone, failed) = rm(&mirror, json!({ "references": ["org/tool:latest"] })).await;
    assert_eq!((&gone[0]["outcome"], failed), (&"done".into(), 0));
    assert!(gone[0]["problem"].as_str().unwrap().contains("last copies"), "{gone:?}");
    assert_eq!(gone[0]["last_copy_bytes"], gone[0]["bytes"]);
}

#[tokio::test]
async fn in_a_public_registry_a_repository_takes_only_what_no_other_asked_for() {
    let registry = Upstream::start().await;
    let shared = blob(SHARED, 1);
    let (app, tool) = (image(&[shared.clone(), blob(10, 2)]), image(&[shared, blob(20, 3)]));
    registry.publish("org/app", "1", &app);
    registry.publish("org/copy", "1", &app);
    registry.publish("org/tool", "1", &tool);
    let mirror =
        Mirror::start(format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\npublic = true\n", registry.url())).await;
    for repository in ["org/app", "org/copy", "org/tool"] {
        mirror.pull_whole(repository, "1").await;
    }
    let (gone, _) = rm(&mirror, json!({ "references": ["org/copy"] })).await;
    assert_eq!((&gone[0]["outcome"], &gone[0]["bytes"]), (&"done".into(), &0.into()), "{gone:?}");
    let (gone, _) = rm(&mirror, json!({ "references": ["org/app"] })).await;
    assert_eq!(gone[0]["bytes"].as_u64().unwrap(), bytes(&app) - SHARED, "{gone:?}");
    mirror.pull_whole("org/tool", "1").await;
}

#[tokio::test]
async fn gc_evicts_to_a_size_or_by_age_and_says_what_stays() {
    let site = Site::start().await;
    let mirror = &site.mirror;
    over_socket(mirror, "POST", "pins?pin=docker.io/org/app:*", &Value::Null).await;
    let (status, done) = over_socket(mirror, "POST", "gc", &json!({ "unused_for": "1h" })).await;
    assert_eq!((status, &done["evicted_blobs"], &done["done"]), (200, &0.into(), &true.into()), "{done}");
    mirror.advance(Duration::from_hours(2));
    let (_, done) = over_socket(mirror, "POST", "gc", &json!({ "unused_for": "1h" })).await;
    assert_eq!(done["evicted_bytes"].as_u64().unwrap(), bytes(&site.tool) - SHARED, "what is pinned stays: {done}");
    let file = mirror.config_file();
    let file = file.to_str().unwrap();
    let lacking = roadstead(&["gc", "--to", "1KiB", "--config", file]).await;
    assert_eq!(lacking.status.code(), Some(1));
    assert!(stderr(&lacking).contains("nothing more may go"), "{}", stderr(&lacking));
    over_socket(mirror, "DELETE", "pins?pin=docker.io/org/app:*", &Value::Null).await;
    let done = told(mirror.config_file().as_path(), &["gc", "--to", "1KiB"]).await;
    assert!(done["used_bytes"].as_u64().unwrap() <= 1024 && done["evicted_bytes"].as_u64().unwrap() > 0, "{done}");
    for order in [json!({}), json!({ "to": "x" }), json!({ "to": "1GiB", "unused_for": "1d" }), json!({ "colour": 1 })]
    {
        let (status, refused) = over_socket(mirror, "POST", "gc", &order).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &"invalid".into()), "{order}: {refused}");
    }
    for arguments in [&["gc"][..], &["gc", "--to", "1GiB", "--unused-for", "1d"], &["gc", "--to", "much"]] {
        assert_eq!(roadstead(arguments).await.status.code(), Some(64), "{arguments:?}");
    }
}

#[tokio::test]
async fn refresh_checks_tags_now_and_fetches_nothing_but_manifests() {
    let site = Site::start().await;
    let moved = image(&[blob(77, 9)]);
    site.registry.tag("org/tool", "latest", &site.registry.publish_untagged("org/tool", &moved));
    site.registry.forget_requests();
    let file = site.mirror.config_file();
    let command = ["refresh", "docker.io/org/*:*", "--json", "--config", file.to_str().unwrap()];
    let output = roadstead(&command).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(&str, &str)> =
        lines[..3].iter().map(|line| (line["item"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect();
    let expected =
        [("docker.io/org/app:1", "held"), ("docker.io/org/app:amd64", "held"), ("docker.io/org/tool:latest", "done")];
    assert_eq!(told, expected);
    assert_eq!((&lines[3]["items"], &lines[3]["failed"]), (&3.into(), &0.into()));
    assert!(site.registry.requests().iter().all(|request| !request.path.contains("/blobs/")), "no blob");
    site.registry.stop().await;
    let output = roadstead(&["refresh", "docker.io/org/tool", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("failed   docker.io/org/tool:latest"), "{}", stdout(&output));
    let output = roadstead(&["refresh", "quay.io/**", "--config", file.to_str().unwrap()]).await;
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("not among the upstreams"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn a_tag_that_is_pinned_to_a_digest_answers_with_it_until_the_pin_is_taken_back() {
    let site = Site::start().await;
    let moved = image(&[blob(77, 9)]);
    let file = site.mirror.config_file();
    let pinned = format!("org/tool:latest@{}", &site.tool.digest[..20]);
    let output = roadstead(&["pin", "add", &pinned, "--config", file.to_str().unwrap()]).await;
    assert_eq!(stdout(&output), format!("docker.io/org/tool:latest@{}\n", site.tool.digest), "{}", stderr(&output));
    site.registry.tag("org/tool", "latest", &site.registry.publish_untagged("org/tool", &moved));
    site.mirror.advance(Duration::from_hours(1));
    let digest = async |mirror: &Mirror| {
        let answer = mirror.client().get("/v2/org/tool/manifests/latest").await;
        (answer.header("docker-content-digest").to_owned(), answer.header("cache-status").to_owned())
    };
    let kept = (site.tool.digest.clone(), "roadstead; hit; detail=\"tag pinned to this digest\"".to_owned());
    assert_eq!(digest(&site.mirror).await, kept);
    let (_, refreshed) =
        over_socket(&site.mirror, "POST", "refresh", &json!({ "globs": ["docker.io/org/tool:*"] })).await;
    assert_eq!(refreshed["items"][0]["outcome"], "held");
    let mirror = site.mirror.restart().await;
    mirror.advance(Duration::from_hours(1));
    assert_eq!(digest(&mirror).await, kept, "after a restart, too");
    let pins = api(&mirror, "pins").await.1;
    assert_eq!(
        pins["pins"][0],
        json!({ "pattern": "docker.io/org/tool:latest", "configured": false, "digest": site.tool.digest })
    );
    let (status, left) = over_socket(&mirror, "DELETE", "pins?pin=docker.io/org/tool:latest", &Value::Null).await;
    assert_eq!((status, &left["pins"]), (200, &json!([])));
    assert_eq!(digest(&mirror).await.0, moved.digest, "upstream decides again");
    for wrong in
        ["org/tool@sha256:abcd", "org/tool:1@sha256:zz", "org/tool:1@sha256:ffffffff", "quay.io/x:1@sha256:abcd"]
    {
        let path = format!("pins?pin={wrong}");
        let (status, refused) = over_socket(&mirror, "POST", &path, &Value::Null).await;
        assert!(status == 400 || status == 404, "{wrong}: {refused}");
    }
}

#[tokio::test]
async fn an_alias_answers_with_what_its_target_points_to_and_with_all_it_needs() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let app = image(&[blob(3000, 1), blob(200, 2)]);
    second.publish("team/app", "1.2", &app);
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[upstreams.\"registry.corp\"]\nurl = \"{}\"\n",
        first.url(),
        second.url()
    );
    let mirror = Mirror::start(toml).await;
    let file = mirror.config_file();
    let file = file.to_str().unwrap();
    let made = roadstead(&["alias", "org/app:stable", "registry.corp/team/app:1.2", "--config", file]).await;
    assert_eq!(stdout(&made), "docker.io/org/app:stable is registry.corp/team/app:1.2\n", "{}", stderr(&made));
    let manifest = mirror.client().get("/v2/org/app/manifests/stable").await;
    assert_eq!(
        (manifest.status, manifest.header("docker-content-digest")),
        (200, app.digest.as_str()),
        "{}",
        manifest.text()
    );
    assert_eq!(manifest.header("cache-status"), "roadstead; hit; detail=\"tag is an alias\"");
    assert_eq!(mirror.client().get(&format!("/v2/org/app/manifests/{}", app.digest)).await.status, 200);
    for part in &app.blobs {
        let path = format!("/v2/org/app/blobs/{}", part.digest);
        assert_eq!(mirror.client().get(&path).await.status, 200, "{path}");
    }
    let tags = api(&mirror, "tags?repository=org/app").await.1;
    let tag = &tags["tags"][0];
    assert_eq!((&tag["state"], &tag["alias"]), (&"alias".into(), &"registry.corp/team/app:1.2".into()), "{tags}");
    crate::support::mirror::quiet(&mirror).await;
    let covered = roadstead(&["coverage", "org/app:stable", "--config", file]).await;
    assert_eq!(covered.status.code(), Some(0), "{}", stdout(&covered));
    for (alias, target, code) in [
        ("org/app", "registry.corp/team/app:1.2", 400),
        ("org/app:x", "registry.corp/team/app@sha256:abcd", 400),
        ("org/app:x", "quay.io/team/app:1", 404),
        ("org/app:x", "org/app:x", 409),
        ("org/app:x", "org/app:stable", 409),
    ] {
        let order = json!({ "alias": alias, "target": target });
        let (status, refused) = over_socket(&mirror, "POST", "alias", &order).await;
        assert_eq!(status, code, "{order}: {refused}");
    }
    let mirror = mirror.restart().await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/stable").await.status, 200, "after a restart, too");
    let (gone, _) = rm(&mirror, json!({ "references": ["org/app:stable"] })).await;
    assert_eq!((&gone[0]["outcome"], &gone[0]["bytes"]), (&"done".into(), &0.into()), "{gone:?}");
    assert_eq!(mirror.client().get("/v2/org/app/manifests/stable").await.status, 404);
}
