//! `inspect`: one manifest or blob.

use std::process::ExitCode;

use roadstead::jobs::look::inspect;
use roadstead::oci::Named;
use serde_json::Value;

use super::{ago, typed};
use crate::cli::output::{flag, list, number, plain, print, print_json, size};
use crate::cli::reach::{Reach, Request, query};
use crate::cli::table::{Align, Table};

pub(in crate::cli) fn run(reach: &Reach, reference: &str, as_json: bool) -> Result<(), ExitCode> {
    let named: Named = typed(reference)?;
    let path = query("/api/v1/inspect", [("reference", reference)]);
    let found = reach.answer(Request::get(&path), async |mirror| {
        Ok(serde_json::to_value(inspect(mirror, &named).await?).unwrap_or_default())
    })?;
    if as_json {
        print_json(&found);
    } else {
        print(&text(&found));
    }
    Ok(())
}

fn text(found: &Value) -> String {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() && value != "null" {
            lines.push(format!("{name}: {value}"));
        }
    };
    add("digest", plain(found, "digest"));
    add("repository", plain(found, "repository"));
    if let Some(tag) = found.get("tag").filter(|tag| tag.is_object()) {
        add("tag", format!("{} ({}, checked {} ago)", plain(tag, "tag"), plain(tag, "state"), ago(tag.get("checked"))));
    }
    add("kind", plain(found, "kind"));
    add("media type", plain(found, "media_type"));
    add("artifact type", plain(found, "artifact_type"));
    add("held", plain(found, "held"));
    add("blocked", plain(found, "blocked"));
    add("subject", plain(found, "subject"));
    match found.get("content").filter(|content| content.is_object()) {
        None => add("stored", "no".to_owned()),
        Some(content) => {
            add("size", size(number(content, "size_bytes")));
            add("origin", plain(content, "origin"));
            add("used", format!("{} ago", ago(content.get("used"))));
            if flag(content, "is_pinned") {
                add("pinned", "yes".to_owned());
            }
            if flag(content, "is_last_copy") {
                add("last copy", "yes: no registry that is online can give it again".to_owned());
            }
        }
    }
    for (name, value) in found.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        add(&format!("annotation {name}"), value.as_str().unwrap_or_default().to_owned());
    }
    for referrer in list(found, "referrers") {
        add("referrer", format!("{} {}", plain(referrer, "digest"), plain(referrer, "artifactType")));
    }
    for image in list(found, "images") {
        let platform = image.get("platform").and_then(Value::as_str).unwrap_or("no platform");
        let state = match (flag(image, "is_held"), flag(image, "is_whole")) {
            (false, _) => "not held",
            (true, false) => "incomplete",
            (true, true) => "whole",
        };
        lines.push(String::new());
        lines.push(format!("{platform}: {state}: {}", plain(image, "digest")));
        if list(image, "parts").is_empty() {
            continue;
        }
        let mut table = Table::new(&[
            ("  part", Align::Left),
            ("size", Align::Right),
            ("held", Align::Left),
            ("digest", Align::Left),
        ]);
        for part in list(image, "parts") {
            let held = match (flag(part, "is_stored"), flag(part, "is_granted")) {
                _ if flag(part, "is_blocked") => "blocked",
                (true, true) => "yes",
                (true, false) => "unproven",
                (false, _) => "no",
            };
            let role = format!("  {}", plain(part, "role"));
            table.add(vec![role, size(number(part, "size_bytes")), held.to_owned(), plain(part, "digest")]);
        }
        lines.push(table.text());
    }
    lines.join("\n")
}
