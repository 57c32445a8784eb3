//! What is held: repositories, tags, manifests, bytes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{SHARED, Site, api, bytes, roadstead, stdout, told};
use crate::operations::program::stderr;
use crate::support::eventually;
use crate::support::image::{artifact, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn rows<'a>(answer: &'a Value, key: &str) -> Vec<&'a Value> {
    answer[key].as_array().unwrap().iter().collect()
}

#[tokio::test]
async fn repositories_and_registries_tell_their_own_and_shared_bytes() {
    let site = Site::start().await;
    let (status, found) = api(&site.mirror, "repositories").await;
    assert_eq!((status, &found["total"], &found["next"]), (200, &2.into(), &Value::Null), "{found}");
    let found_rows = rows(&found, "repositories");
    let [app, tool] = found_rows.as_slice() else { panic!("{found}") };
    assert_eq!((&app["repository"], &tool["repository"]), (&"docker.io/org/app".into(), &"docker.io/org/tool".into()));
    assert_eq!(
        (&app["tags"], &app["manifests"], &tool["tags"], &tool["manifests"]),
        (&2.into(), &2.into(), &1.into(), &1.into())
    );
    let app_own = site.app.manifest.len() as u64 + bytes(&site.amd64) - SHARED;
    assert_eq!((&app["own_bytes"], &app["shared_bytes"]), (&app_own.into(), &SHARED.into()), "{app}");
    let tool_own = bytes(&site.tool) - SHARED;
    assert_eq!((&tool["own_bytes"], &tool["shared_bytes"]), (&tool_own.into(), &SHARED.into()), "{tool}");
    assert_eq!(app["last_copy_bytes"], 0);
    let (_, usage) = api(&site.mirror, "usage").await;
    let all = app_own + tool_own + SHARED;
    let hub = json!({ "authority": "docker.io", "repositories": 2, "own_bytes": all, "shared_bytes": 0, "last_copy_bytes": 0 });
    assert_eq!((&usage["authorities"], &usage["stored_bytes"]), (&json!([hub]), &all.into()), "{usage}");
    assert_eq!(usage["unreachable_bytes"], 0);
}

#[tokio::test]
async fn repositories_are_sorted_filtered_and_paged() {
    let site = Site::start().await;
    let names = async |query: &str| {
        let (status, found) = api(&site.mirror, &format!("repositories?{query}")).await;
        assert_eq!(status, 200, "{query}: {found}");
        rows(&found, "repositories")
            .iter()
            .map(|row| row["repository"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (app, tool) = ("docker.io/org/app", "docker.io/org/tool");
    assert_eq!(names("sort=name").await, [app, tool]);
    assert_eq!(names("sort=tags").await, [app, tool]);
    assert_eq!(names("sort=size&limit=1").await, [app]);
    assert_eq!(names("glob=docker.io/org/t*").await, [tool]);
    assert_eq!(names("glob=index.docker.io/**").await, [app, tool], "aliases are folded");
    assert_eq!(names("glob=docker.io").await, [app, tool]);
    assert_eq!(names("glob=quay.io").await, [""; 0]);
    let (_, first) = api(&site.mirror, "repositories?sort=size&limit=1").await;
    let next = first["next"].as_str().unwrap().replace('/', "%2F");
    let (_, second) = api(&site.mirror, &format!("repositories?sort=size&limit=1&after={next}")).await;
    assert_eq!((&second["repositories"][0]["repository"], &second["next"]), (&tool.into(), &Value::Null));
    for (query, code) in [
        ("limit=0", "invalid"),
        ("limit=1001", "invalid"),
        ("limit=x", "invalid"),
        ("sort=colour", "invalid"),
        ("glob=**a", "invalid"),
        ("glob=docker.io/x:1", "invalid"),
        ("after=x", "invalid"),
        ("colour=red", "invalid"),
        ("limit=1&limit=2", "invalid"),
    ] {
        let (status, refused) = api(&site.mirror, &format!("repositories?{query}")).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &code.into()), "{query}: {refused}");
    }
}

#[tokio::test]
async fn tags_tell_where_they_point_for_which_platforms_and_where_they_pointed_before() {
    let site = Site::start().await;
    let moved = image(&[blob(77, 9)]);
    site.registry.tag("org/app", "amd64", &site.registry.publish_untagged("org/app", &moved));
    site.mirror.advance(Duration::from_mins(2));
    site.mirror.pull_whole("org/app", "amd64").await;
    let (status, found) = api(&site.mirror, "tags?repository=docker.io/org/app").await;
    assert_eq!(status, 200, "{found}");
    let [one, amd64] = rows(&found, "tags")[..] else { panic!("{found}") };
    assert_eq!((&one["tag"], &one["digest"]), (&"1".into(), &site.app.digest.clone().into()));
    assert_eq!((&one["kind"], &one["held"]), (&"index".into(), &"partial".into()), "{one}");
    assert_eq!((&one["platforms"], &one["state"]), (&json!(["linux/amd64"]), &"due".into()));
    assert_eq!(
        (&amd64["held"], &amd64["platforms"], &amd64["state"]),
        (&"whole".into(), &json!(["linux/amd64"]), &"fresh".into())
    );
    let history: Vec<&Value> = rows(amd64, "history").iter().map(|moved| &moved["digest"]).collect();
    assert_eq!(history, [&site.amd64.digest, &moved.digest]);
    let (_, page) = api(&site.mirror, "tags?repository=org/app&limit=1").await;
    assert_eq!((page["tags"].as_array().unwrap().len(), &page["next"]), (1, &"1".into()));
    let (_, page) = api(&site.mirror, "tags?repository=org/app&limit=1&after=1").await;
    assert_eq!((&page["tags"][0]["tag"], &page["next"]), (&"amd64".into(), &Value::Null));
    let (_, page) = api(&site.mirror, "tags?repository=org/app&glob=am*").await;
    assert_eq!(page["tags"].as_array().unwrap().len(), 1);
    for (query, status, code) in [
        ("", 400, "invalid"),
        ("repository=A", 400, "invalid"),
        ("repository=quay.io/org/app", 404, "unknown_registry"),
        ("repository=org/none", 404, "not_found"),
    ] {
        let (answered, refused) = api(&site.mirror, &format!("tags?{query}")).await;
        assert_eq!((answered, &refused["error"]["code"]), (status, &code.into()), "{query}: {refused}");
    }
}

#[tokio::test]
async fn t73_a_tag_that_moves_every_time_keeps_a_short_history() {
    let registry = Upstream::start().await;
    let mirror = Mirror::of("docker.io", registry.url()).await;
    for nth in 0..30 {
        registry.publish("org/app", "latest", &image(&[blob(10, nth)]));
        mirror.advance(Duration::from_mins(2));
        assert_eq!(mirror.client().get("/v2/org/app/manifests/latest").await.status, 200);
    }
    let (_, found) = api(&mirror, "tags?repository=org/app").await;
    assert_eq!(found["tags"][0]["history"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn an_image_is_inspected_with_its_platforms_parts_config_and_referrers() {
    let site = Site::start().await;
    let signature = artifact(&site.app, "application/vnd.example.signature", "signed");
    site.registry.put_referrer("org/app", &signature);
    assert_eq!(site.mirror.client().get(&format!("/v2/org/app/manifests/{}", signature.digest)).await.status, 200);
    let is_stored = async || api(&site.mirror, "inspect?reference=org/app:1").await.1["referrers"] != json!([]);
    eventually("the signature is stored", is_stored).await;
    let (status, found) = api(&site.mirror, "inspect?reference=org/app:1").await;
    assert_eq!(
        (status, &found["digest"], &found["kind"]),
        (200, &site.app.digest.clone().into(), &"index".into()),
        "{found}"
    );
    let [amd64, arm64] = rows(&found, "images")[..] else { panic!("{found}") };
    assert_eq!((&amd64["platform"], &amd64["is_whole"]), (&"linux/amd64".into(), &true.into()));
    assert_eq!((&arm64["digest"], &arm64["is_held"]), (&site.arm64.digest.clone().into(), &false.into()));
    assert_eq!(
        (&found["tag"]["tag"], &found["referrers"][0]["digest"]),
        (&"1".into(), &signature.digest.clone().into())
    );
    assert_eq!((&found["content"]["origin"], &found["content"]["is_last_copy"]), (&"docker.io".into(), &false.into()));
    let digest = &site.tool.digest;
    let (_, tool) = api(&site.mirror, &format!("inspect?reference=org/tool@{}", &digest[..15])).await;
    assert_eq!((&tool["digest"], &tool["config"]["architecture"]), (&digest.clone().into(), &"amd64".into()), "{tool}");
    let roles: Vec<&str> =
        rows(&tool["images"][0], "parts").iter().map(|part| part["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["config", "layer", "layer"]);
    let layer = &site.tool.layers()[0].digest;
    let (_, content) = api(&site.mirror, &format!("inspect?reference={}", &layer[..20])).await;
    assert_eq!((&content["digest"], &content["content"]["size_bytes"]), (&layer.clone().into(), &SHARED.into()));
    for (reference, status, code) in [
        ("org/app:none", 404, "not_found"),
        ("org/none:1", 404, "not_found"),
        ("quay.io/x", 404, "unknown_registry"),
        ("org/app@sha256:abc", 400, "invalid"),
        ("org/app@sha256:00000000000000000000", 404, "not_found"),
        (&format!("org/tool@{}", site.app.digest), 404, "not_found"),
    ] {
        let (answered, refused) = api(&site.mirror, &format!("inspect?reference={reference}")).await;
        assert_eq!((answered, &refused["error"]["code"]), (status, &code.into()), "{reference}: {refused}");
    }
}

#[tokio::test]
async fn t74_a_shortened_digest_that_fits_two_is_refused_with_both() {
    let registry = Upstream::start().await;
    // Four hex digits are 65,536 beginnings: two of 2000 blobs share one, almost surely.
    let mut seen = std::collections::HashMap::new();
    let (first, second) = (0..2000)
        .find_map(|nth| {
            let content = blob(64, nth);
            let digest = content.sha256();
            let before = seen.insert(digest[..11].to_owned(), content.clone());
            before.map(|before| (before, content))
        })
        .unwrap();
    registry.publish("org/app", "1", &image(&[first.clone(), second.clone()]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    mirror.pull_whole("org/app", "1").await;
    let short = &first.sha256()[..11];
    for reference in [short.to_owned(), format!("org/app@{short}")] {
        let (status, refused) = api(&mirror, &format!("inspect?reference={reference}")).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &"ambiguous".into()), "{refused}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(&first.sha256()) && message.contains(&second.sha256()), "{message}");
    }
}

#[tokio::test]
async fn commands_show_the_same_of_a_running_and_of_a_stopped_mirror() {
    let site = Site::start().await;
    let file = site.mirror.config_file();
    let commands: [&[&str]; 5] = [
        &["ls"],
        &["ls", "docker.io/org/t*", "--sort", "size"],
        &["tags", "org/app"],
        &["inspect", "org/app:1"],
        &["du"],
    ];
    let mut running = Vec::new();
    for command in commands {
        let mut answer = told(&file, command).await;
        answer.as_object_mut().unwrap().remove("as_of");
        running.push(answer);
        let config = ["--config", file.to_str().unwrap()];
        let table = roadstead(&[command, &config[..]].concat()).await;
        assert!(table.status.success() && !stdout(&table).contains("null"), "{}{}", stdout(&table), stderr(&table));
    }
    let stopped = site.mirror.stop().await;
    for (command, running) in commands.iter().zip(running) {
        let mut answer = told(&stopped.config_file(), command).await;
        answer.as_object_mut().unwrap().remove("as_of");
        assert_eq!(answer, running, "{command:?}");
    }
    let file = stopped.config_file();
    for (arguments, code) in [
        (&["inspect", "org/none"][..], 1),
        (&["inspect", "A"], 64),
        (&["tags", "x:y:z"], 64),
        (&["ls", "--sort", "colour"], 64),
        (&["ls", "docker.io/x:1"], 1),
    ] {
        let output = roadstead(&[arguments, &["--config", file.to_str().unwrap()]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn what_no_registry_can_give_again_is_told() {
    let site = Site::start().await;
    let offline = "[upstreams.\"docker.io\"]\noffline = true\n";
    let mirror = site.mirror.stop().await.start_with(offline).await;
    let (_, found) = api(&mirror, "repositories").await;
    let row = &found["repositories"][1];
    assert_eq!(row["last_copy_bytes"].as_u64().unwrap(), bytes(&site.tool), "{found}");
    let (_, tool) = api(&mirror, "inspect?reference=org/tool").await;
    assert_eq!(tool["content"]["is_last_copy"], true);
    let file = mirror.config_file();
    let table = roadstead(&["ls", "--config", file.to_str().unwrap()]).await;
    assert!(stdout(&table).contains("last copy: "), "{}", stdout(&table));
}

#[tokio::test]
async fn a_public_registry_is_told_by_the_repositories_that_asked() {
    let registry = Upstream::start().await;
    let shared = blob(SHARED, 1);
    let (app, tool) = (image(&[shared.clone(), blob(10, 2)]), image(&[shared, blob(20, 3)]));
    registry.publish("org/app", "1", &app);
    registry.publish("org/tool", "1", &tool);
    let mirror =
        Mirror::start(format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\npublic = true\n", registry.url())).await;
    mirror.pull_whole("org/app", "1").await;
    mirror.pull_whole("org/tool", "1").await;
    let (_, found) = api(&mirror, "repositories").await;
    let [first, second] = rows(&found, "repositories")[..] else { panic!("{found}") };
    assert_eq!(
        (first["own_bytes"].as_u64().unwrap(), first["shared_bytes"].as_u64().unwrap()),
        (bytes(&app) - SHARED, SHARED)
    );
    assert_eq!(
        (second["own_bytes"].as_u64().unwrap(), second["manifests"].as_u64().unwrap()),
        (bytes(&tool) - SHARED, 1)
    );
}
