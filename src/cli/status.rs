use std::process::ExitCode;

use roadstead::clock::Timestamp;
use roadstead::config::Config;
use roadstead::jobs::Status;
use serde_json::Value;

use super::output::{flag, list, number, plain, print, print_json, size};
use super::reach::{Reach, Request, Site, offline_storage};

pub(super) fn run(reach: &Reach, as_json: bool) -> Result<(), ExitCode> {
    let (running, mut status) = match reach.find()? {
        Site::Running(server) => (true, server.json(Request::get("/api/v1/status"))?),
        Site::Stopped(config) => (false, offline(*config)?),
    };
    if let Some(status) = status.as_object_mut() {
        status.insert("running".to_owned(), running.into());
    }
    if as_json {
        print_json(&status);
    } else {
        print(&lines(&status));
    }
    Ok(())
}

fn offline(config: Config) -> Result<Value, ExitCode> {
    let status = offline_storage::with_mirror(config, async |mirror| Status::of(mirror).await)?;
    Ok(serde_json::to_value(status).unwrap_or_default())
}

fn lines(status: &Value) -> String {
    let mut lines = vec![format!("running: {}", if flag(status, "running") { "yes" } else { "no" })];
    let mut add = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("{name}: {value}")));
    let text = |key: &str| status.get(key).filter(|value| !value.is_null()).map(|_| plain(status, key));
    let bytes = |key: &str| status.get(key).and_then(Value::as_u64).map(size);
    add("version", text("version"));
    add("used", bytes("used_bytes"));
    add("in quarantine", bytes("quarantined_bytes"));
    add("index", bytes("index_bytes"));
    add("max_size", bytes("max_size").or_else(|| Some("none".to_owned())));
    add("min_free", bytes("min_free"));
    add("pins", text("pins"));
    add("pinned", bytes("pinned_bytes"));
    add("lost", text("lost"));
    for quota in list(status, "quotas") {
        let (upstream, used) = (plain(quota, "upstream"), size(number(quota, "used_bytes")));
        add(&format!("quota of {upstream}"), Some(format!("{used} of {}", size(number(quota, "max_size")))));
    }
    if let Some(facts) = status.get("facts") {
        for key in facts.as_object().into_iter().flat_map(serde_json::Map::keys) {
            let (name, value) = match key.strip_suffix("_bytes") {
                Some(name) => (name, size(number(facts, key))),
                None => (key.as_str(), plain(facts, key)),
            };
            lines.push(format!("{name}: {value}"));
        }
    }
    if let Some(images) = status.get("images").filter(|images| images.is_object()) {
        let (whole, incomplete) = (plain(images, "whole"), plain(images, "incomplete"));
        lines.push(format!("images: {whole} whole, {incomplete} incomplete"));
        for image in list(images, "examples") {
            let name =
                format!("{}/{}@{}", plain(image, "authority"), plain(image, "repository"), plain(image, "digest"));
            let (missing, unproven) = (plain(image, "missing"), plain(image, "unproven"));
            lines.push(format!("incomplete: {name}: {missing} blobs missing, {unproven} not yet proved"));
        }
    }
    for warm in list(status, "warm") {
        let state = warm.get("state").and_then(Value::as_str).unwrap_or("waits for its first round");
        let (items, failed) = (plain(warm, "items"), plain(warm, "failed"));
        let problem = warm.get("problem").and_then(Value::as_str).map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("warm {}: {state}, {items} images, {failed} failed{problem}", plain(warm, "name")));
    }
    for part in list(status, "degraded") {
        lines.push(format!("degraded: {}: {}", plain(part, "part"), plain(part, "why")));
    }
    for trouble in list(status, "upstream_troubles") {
        let [upstream, endpoint, kind, why, meanwhile, remedy] =
            ["upstream", "endpoint", "trouble", "why", "meanwhile", "remedy"].map(|key| plain(trouble, key));
        let since = Timestamp::from_millis(number(trouble, "since")).rfc3339();
        lines.push(format!("upstream {upstream} ({endpoint}): {kind} since {since}: {why}; {meanwhile}; {remedy}"));
    }
    lines.join("\n")
}
