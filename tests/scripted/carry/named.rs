//! What is named for an export: lists, aliases, pinned tags; and an export that is ended.

use super::{app, assert_served, at, island, lines, pull, request, site, text};
use crate::facts::backup::said;
use crate::support::eventually;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// A rendered chart with images that are held, one that is not, and none that a template has left open.
const MANIFEST: &str = "kind: Deployment\nspec:\n  containers:\n    - name: one\n      image: \"org/app:1\"   # first\n    \
    - {name: two, image: 'docker.io/org/app:2'}\n    - image: {{ .Values.image }}\n---\nservices:\n  web:\n    image: org/none\n";

#[tokio::test]
async fn a_list_is_read_alike_by_warm_export_and_coverage_and_in_the_configuration() {
    let (registry, mirror, ..) = site().await;
    let folder = tempfile::tempdir().unwrap();
    let (list, bundle, long) =
        (folder.path().join("all.yaml"), folder.path().join("b.tar"), folder.path().join("long"));
    std::fs::write(&list, MANIFEST).unwrap();
    std::fs::write(&long, "a\n".repeat(9 << 20)).unwrap();
    for command in ["coverage", "warm", "export"] {
        let more: &[&str] = if command == "export" { &["--output", text(&bundle)] } else { &[] };
        let done = at(&mirror, &[&[command, "--json", "-f", text(&list)], more].concat()).await;
        assert_eq!(done.status.code(), Some(1), "{command}: {}", said(&done));
        let (mut found, result) = lines(&done);
        let name =
            |item: &serde_json::Value| item["item"].as_str().unwrap().trim_start_matches("docker.io/").to_owned();
        found.sort_by_key(name);
        assert_eq!(found.iter().map(name).collect::<Vec<_>>(), ["org/app:1", "org/app:2", "org/none"], "{command}");
        let outcomes: Vec<_> = found.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
        assert!(outcomes[2] == "missing" && outcomes[..2].iter().all(|it| ["held", "done"].contains(it)), "{found:?}");
        assert_eq!((&result["items"], &result["failed"]), (&3.into(), &1.into()), "{command}");
        let done = at(&mirror, &[&[command, "-f", text(&long)], more].concat()).await;
        assert_eq!(done.status.code(), Some(64), "{command}: {}", said(&done));
        assert!(said(&done).contains("it has more than 16777216 bytes"), "{command}: {}", said(&done));
    }
    let (url, file) = (registry.url(), list.display());
    let upstream = format!("[upstreams.\"docker.io\"]\nurl = \"{url}\"\n");
    let lists =
        format!("[[coverage]]\nname = \"site\"\nfile = \"{file}\"\n[[warm]]\nname = \"site\"\nfile = \"{file}\"\n");
    let mirror = mirror.stop().await.start_with(format!("{upstream}{lists}")).await;
    let metric = |name: &str| mirror.metric(&format!("roadstead_{name}"));
    eventually("the lists are looked at", async || {
        metric("coverage_images{list=\"site\",outcome=\"held\"}") == 2.0
            && metric("coverage_images{list=\"site\",outcome=\"missing\"}") == 1.0
            && metric("warm_failed_images{list=\"site\"}") == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_selector_chooses_among_the_held_tags_for_export_and_coverage() {
    let (registry, mirror, one, two) = site().await;
    registry.publish("org/app", "3", &app(30));
    let (folder, island) = (tempfile::tempdir().unwrap(), island().await);
    let bundle = folder.path().join("b.tar");
    let selected = ["org/app{semver=>=1}", "org/app{newest=1}", "org/app{regex=x}", "org/app{newest=0}"];
    let covered = at(&mirror, &[&["coverage", "--json"], &selected[..]].concat()).await;
    let told = |items: &[serde_json::Value]| {
        let tell = |item: &serde_json::Value| format!("{} {}", item["item"], item["outcome"]).replace('"', "");
        items.iter().map(tell).collect::<Vec<_>>()
    };
    let (items, _) = lines(&covered);
    let (second, first) = ("docker.io/org/app:2 held", "docker.io/org/app:1 held");
    let wrong = ["org/app{regex=x} missing", "org/app{newest=0} refused"];
    assert_eq!(told(&items), [second, first, second, wrong[0], wrong[1]]);
    let done = at(&mirror, &["export", "--output", text(&bundle), selected[0]]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert!(at(&island, &["import", text(&bundle)]).await.status.success());
    assert_served(&island, "org/app", "1", &one).await;
    assert_served(&island, "org/app", "2", &two).await;
}

#[tokio::test]
async fn an_alias_and_a_pinned_tag_are_exported_as_they_are_pulled() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (aliased, old, new) = (app(1), app(5), app(9));
    second.publish("team/app", "1.2", &aliased);
    first.publish("org/app", "1", &old);
    let both = |of: &str| format!("[upstreams.\"docker.io\"]\n{of}\n[upstreams.\"registry.corp\"]\n");
    let toml = format!("{}url = \"{}\"\n", both(&format!("url = \"{}\"", first.url())), second.url());
    let mirror = Mirror::start(toml).await;
    pull(&mirror, "registry.corp/team/app", "1.2", &aliased).await;
    pull(&mirror, "org/app", "1", &old).await;
    assert!(at(&mirror, &["alias", "org/app:stable", "registry.corp/team/app:1.2"]).await.status.success());
    let pin = format!("org/app:1@{}", old.digest);
    let done = at(&mirror, &["pin", "add", &pin]).await;
    assert!(done.status.success(), "{}", said(&done));
    first.publish("org/app", "1", &new);
    let folder = tempfile::tempdir().unwrap();
    let offline = "url = \"http://127.0.0.1:9\"\noffline = true";
    for (nth, which) in
        [&["--all"][..], &["--used-since", "1d"], &["org/app:stable", "docker.io/org/app:1"]].iter().enumerate()
    {
        let bundle = folder.path().join(format!("{nth}.tar"));
        let done = at(&mirror, &[&["export", "--output", text(&bundle)], *which].concat()).await;
        assert!(done.status.success(), "{which:?}: {}", said(&done));
        let island = Mirror::start(format!("{}{offline}\n", both(offline))).await;
        let done = at(&island, &["import", text(&bundle)]).await;
        assert!(done.status.success(), "{which:?}: {}", said(&done));
        assert_served(&island, "org/app", "stable", &aliased).await;
        assert_served(&island, "org/app", "1", &old).await;
    }
    // Rules are asked where the content belongs, as for a pull.
    let done = at(&mirror, &["export", "--output", text(&folder.path().join("x.tar")), "org/app:none"]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
}

#[tokio::test]
async fn a_cancelled_export_is_stopped_and_has_not_failed() {
    let (_registry, mirror, ..) = site().await;
    let socket = mirror.storage().join("admin.sock");
    let told = tokio::task::spawn_blocking(move || {
        let begun = super::post(&socket, "/api/v1/export", "{\"all\": true}");
        let path = format!("/api/v1/jobs/{}", begun["job"]["id"].as_str().unwrap());
        super::post(&socket, &format!("{path}/cancel"), "");
        loop {
            let told = request(&socket, "GET", &path, "");
            if told["job"]["state"] != "running" {
                return told;
            }
        }
    });
    let told = told.await.unwrap();
    assert_eq!(
        (&told["job"]["state"], &told["job"]["problem"]),
        (&"stopped".into(), &"it was cancelled".into()),
        "{told}"
    );
}
