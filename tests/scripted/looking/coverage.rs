//! Which images would survive an outage now.

use std::time::Duration;

use serde_json::Value;

use super::{Site, roadstead, stdout};
use crate::operations::program::stderr;
use crate::support::eventually;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"))).collect()
}

#[tokio::test]
async fn coverage_says_what_is_whole_what_is_missing_and_what_is_no_image() {
    let site = Site::start().await;
    let file = site.mirror.config_file();
    let file = file.to_str().unwrap();
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "# the site's images\n\norg/tool   # by its newest tag\norg/app:1\n").unwrap();
    let list = list.path().to_str().unwrap();
    let held = roadstead(&["coverage", "-f", list, "--json", "--config", file]).await;
    assert_eq!(held.status.code(), Some(0), "{}{}", stdout(&held), stderr(&held));
    let [tool, app, done] = &lines(&stdout(&held))[..] else { panic!("{}", stdout(&held)) };
    assert_eq!(
        (&tool["item"], &tool["outcome"], &tool["problem"]),
        (&"docker.io/org/tool".into(), &"held".into(), &Value::Null)
    );
    assert_eq!(tool["bytes"].as_u64().unwrap(), super::bytes(&site.tool));
    assert_eq!((&app["outcome"], &app["platforms"][0]["platform"]), (&"held".into(), &"linux/amd64".into()), "{app}");
    assert_eq!(app["bytes"].as_u64().unwrap(), site.app.manifest.len() as u64 + super::bytes(&site.amd64));
    assert_eq!((&done["done"], &done["items"], &done["failed"]), (&true.into(), &2.into(), &0.into()));
    let references = ["org/app:1", "org/none:1", "quay.io/org/app:1", "A B", "org/tool@sha256:ffff"];
    let all = ["coverage", "--json", "--platform", "linux/amd64", "--platform", "linux/arm64", "--config", file];
    let lacking = roadstead(&[&all[..], &references].concat()).await;
    assert_eq!(lacking.status.code(), Some(1), "{}", stderr(&lacking));
    let found = lines(&stdout(&lacking));
    let outcomes: Vec<&Value> = found[..5].iter().map(|item| &item["outcome"]).collect();
    assert_eq!(outcomes, ["missing", "missing", "refused", "refused", "missing"], "{found:?}");
    let platforms = &found[0]["platforms"];
    assert_eq!((&platforms[0]["is_whole"], &platforms[1]["is_whole"]), (&true.into(), &false.into()));
    assert_eq!(platforms[1]["missing_digests"][0], site.arm64.digest.clone());
    assert!(found[0]["problem"].as_str().unwrap().contains("linux/arm64: its manifest is not held"), "{}", found[0]);
    assert_eq!((&found[5]["items"], &found[5]["failed"]), (&5.into(), &5.into()));
    let stopped = site.mirror.stop().await;
    let file = stopped.config_file();
    let again = roadstead(&["coverage", "org/tool", "org/none", "--config", file.to_str().unwrap()]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(stdout(&again).contains("missing") && stderr(&again).contains("1 of 2 images"), "{}", stdout(&again));
    for arguments in [&["coverage"][..], &["coverage", "x", "--platform", "amd64"], &["coverage", "-f", "/none"]] {
        assert_eq!(roadstead(arguments).await.status.code(), Some(64), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_missing_blob_is_named_and_a_tag_that_is_too_old_is_not_held() {
    let site = Site::start().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nmax_stale = \"1h\"\n", site.registry.url());
    let layer = &site.tool.layers()[1].digest;
    let stopped = site.mirror.stop().await;
    let hex = layer.trim_start_matches("sha256:");
    let blob = crate::support::mirror::files_below(&stopped.storage()).into_iter().find(|path| path.ends_with(hex));
    std::fs::remove_file(blob.unwrap()).unwrap();
    let mirror = stopped.start_with(toml).await;
    assert_eq!(mirror.client().head(&format!("/v2/org/tool/blobs/{layer}")).await.status, 200, "it is found missing");
    let file = mirror.config_file();
    let command = ["coverage", "--json", "org/tool", "org/app:amd64", "--config", file.to_str().unwrap()];
    let found = lines(&stdout(&roadstead(&command).await));
    assert_eq!((&found[0]["outcome"], &found[1]["outcome"]), (&"missing".into(), &"held".into()), "{found:?}");
    assert_eq!(found[0]["platforms"][0]["missing_digests"][0], layer.clone());
    mirror.advance(Duration::from_hours(2));
    let found = lines(&stdout(&roadstead(&command).await));
    assert!(found[1]["problem"].as_str().unwrap().contains("max_stale"), "{found:?}");
}

#[tokio::test]
async fn the_coverage_of_configured_lists_is_a_metric() {
    let site = Site::start().await;
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "org/app:1\norg/none\n").unwrap();
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[[coverage]]\nname = \"site\"\nimages = [\"org/tool\"]\nfile = \"{}\"\n",
        site.registry.url(),
        list.path().display()
    );
    let mirror = site.mirror.stop().await.start_with(toml).await;
    let metric = |outcome| mirror.metric(&format!("roadstead_coverage_images{{list=\"site\",outcome=\"{outcome}\"}}"));
    eventually("it is looked at", async || (metric("held"), metric("missing")) == (2.0, 1.0)).await;
}

#[test]
fn a_list_of_the_configuration_is_checked() {
    for (lines, problem) in [
        ("images = [\"a\"]", "coverage[0].name"),
        ("name = \"x\"", "coverage[0].images"),
        ("name = \"x\"\nimages = [\"A B\"]", "coverage[0].images[0]"),
        ("name = \"x\"\nimages = [\"a\"]\nplatforms = [\"amd64\"]", "coverage[0].platforms"),
        ("name = \"x\"\nimages = [\"a\"]\n[[coverage]]\nname = \"x\"\nimages = [\"a\"]", "coverage[1].name"),
        ("name = \"x\"\nimages = [\"a\"]\ncolour = 1", "coverage[0].colour"),
    ] {
        let problems = roadstead::config::Config::read(Some(&format!("[[coverage]]\n{lines}\n")), Vec::new());
        let problems = problems.err().unwrap_or_else(|| panic!("{lines}")).to_string();
        assert!(problems.contains(problem), "{lines}: {problems}");
    }
}
