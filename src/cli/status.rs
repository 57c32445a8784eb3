use std::path::Path;
use std::process::ExitCode;

use roadstead::config::Config;
use roadstead::jobs::Status;
use serde_json::Value;

use super::output::{flag, list, plain, print, print_json};
use super::{admin_client, offline_storage};

pub(super) fn run(file: Option<&Path>, as_json: bool) -> Result<(), ExitCode> {
    let config = super::read(file)?;
    let answer = admin_client::ask_api(&config, "GET", "/api/v1/status")?;
    let running = answer.is_some();
    let mut status = answer.map_or_else(|| offline(config), Ok)?;
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
    for key in ["version", "used_bytes", "quarantined_bytes", "max_size", "min_free", "pins", "pinned_bytes", "lost"] {
        if status.get(key).is_some_and(|value| !value.is_null()) {
            lines.push(format!("{key}: {}", plain(status, key)));
        } else if key == "max_size" {
            lines.push("max_size: none".to_owned());
        }
    }
    for quota in list(status, "quotas") {
        let (upstream, used) = (plain(quota, "upstream"), plain(quota, "used_bytes"));
        lines.push(format!("quota of {upstream}: {used} of {}", plain(quota, "max_size")));
    }
    if let Some(facts) = status.get("facts") {
        for key in facts.as_object().into_iter().flat_map(serde_json::Map::keys) {
            lines.push(format!("{key}: {}", plain(facts, key)));
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
    for part in list(status, "degraded") {
        lines.push(format!("degraded: {}: {}", plain(part, "part"), plain(part, "why")));
    }
    lines.join("\n")
}
