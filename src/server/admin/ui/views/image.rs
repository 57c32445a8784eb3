//! One image, index, artifact or blob: what it is made of, which of that is held, and what was said about it.

use maud::{Markup, html};
use serde_json::Value;

use super::repository::{held, history, kind_name, state};
use crate::clock::Timestamp;
use crate::jobs::look::{InspectedImage, InspectedPart, Inspection, Kind};
use crate::server::admin::ui::frame::{View, button};
use crate::server::admin::ui::table::{facts, long, number, table, text};
use crate::server::admin::ui::text::{ago, count, digest_link, foreign, link, short, size, visible, whole_digest_link};

/// Rows of what a manifest lists, and of what was said about it.
const MAX_ROWS: usize = 500;
/// Longest config that is shown. Characters.
const MAX_CONFIG: usize = 20_000;

pub(in crate::server::admin::ui) fn image(now: Timestamp, may_change: bool, found: &Inspection) -> View {
    let tag = found.tag.as_ref().map(|tag| tag.tag.as_str());
    let whole = found.digest.to_string();
    let name = match (&found.repository, tag) {
        (Some(repository), Some(tag)) => format!("{repository}:{tag}"),
        (Some(repository), None) => format!("{repository}@{whole}"),
        (None, _) => whole.clone(),
    };
    // The whole digest is below.
    let heading = if tag.is_some() { name.clone() } else { name.replace(&whole, short(&whole)) };
    let body = html! {
        @if let Some(repository) = &found.repository {
            p.trail {
                a href="/repositories" { "Repositories" } " / "
                a href=(link("/repository", &[("name", repository)])) { (repository) }
            }
        }
        h1.name { (heading) }
        @if may_change { (acts(found)) }
        (about(now, found))
        @if let (Some(repository), Some(tag)) = (&found.repository, &found.tag) {
            @if tag.history.len() > 1 {
                section aria-labelledby="history" {
                    h2 id="history" { "History" }
                    (history(now, repository, &tag.history))
                }
            }
        }
        (contents(found))
        (pairs("annotations", "Annotations", found.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
        @if let Some(config) = &found.config { (config_of(config)) }
        (referrers(found))
    };
    View { title: name, tab: Some("/repositories"), body }
}

/// What may be done with it. Each is one form.
fn acts(found: &Inspection) -> Markup {
    html! {
        @if let (Some(repository), Some(tag)) = (&found.repository, &found.tag) {
            @let name = format!("{repository}:{}", tag.tag);
            div.acts {
                (button("/refresh", &[("glob", &name)], "Refresh"))
                (button("/pin", &[("pattern", &name)], "Pin"))
                (button("/pin", &[("pattern", &format!("{name}@{}", found.digest))], "Pin to this digest"))
            }
        }
    }
}

fn about(now: Timestamp, found: &Inspection) -> Markup {
    let content = found.content.as_ref();
    let whole: u64 = found.images.iter().map(|image| image.size_bytes + parts_bytes(image)).sum();
    facts(vec![
        ("Digest", Some(html! { code { (found.digest) } })),
        ("Kind", (found.repository.is_some()).then(|| html! { (kind_name(found.kind)) })),
        ("Held", (found.repository.is_some()).then(|| held(found.held))),
        (
            "Tag",
            found
                .tag
                .as_ref()
                .map(|tag| html! { (state(tag.state)) " " span.note { "checked " (ago(now, tag.checked)) } }),
        ),
        ("Media type", found.media_type.as_ref().map(|kind| html! { code { (foreign(&kind.to_string())) } })),
        (
            "Artifact type",
            found
                .artifact_type
                .as_ref()
                .filter(|_| found.kind == Kind::Artifact)
                .map(|kind| html! { code { (foreign(kind)) } }),
        ),
        ("Subject", found.subject.as_ref().map(|subject| digest_link(found.repository.as_deref(), subject))),
        (
            "Content",
            Some(html! {
                @if let Some(content) = content { (size(content.size_bytes)) " stored " (ago(now, content.stored)) }
                @else { span.tag.bad { "not stored" } }
            }),
        ),
        ("With all it lists", (whole > 0).then(|| html! { (size(whole)) })),
        ("From", content.and_then(|content| content.origin.as_ref()).map(|origin| html! { (origin) })),
        ("Used", content.and_then(|content| content.used).map(|used| ago(now, used))),
        (
            "Kept",
            content.map(|content| {
                html! {
                    @if content.is_pinned { span.tag { "pinned" } " " }
                    @if content.is_last_copy { span.tag.warn { "last copy" } }
                    @if !content.is_pinned && !content.is_last_copy { "as long as it is used" }
                }
            }),
        ),
    ])
}

fn parts_bytes(image: &InspectedImage) -> u64 {
    image.parts.iter().map(|part| part.size_bytes).sum()
}

fn contents(found: &Inspection) -> Markup {
    match (found.kind, found.images.as_slice()) {
        (Kind::Image | Kind::Artifact, [image]) => html! {
            section aria-labelledby="layers" {
                h2 id="layers" { "Contents" @if let Some(platform) = &image.platform { " for " (foreign(platform)) } }
                (parts(found.repository.as_deref(), &image.parts))
            }
        },
        (Kind::Index, images) => html! {
            section aria-labelledby="platforms" {
                h2 id="platforms" { "Platforms" }
                (platforms(found.repository.as_deref(), images))
            }
        },
        (Kind::Image | Kind::Artifact | Kind::Unknown, _) => html! {},
    }
}

fn platforms(repository: Option<&str>, images: &[InspectedImage]) -> Markup {
    let columns = [text("Platform"), text("Manifest"), text("Held"), number("Blobs held"), number("Size")];
    let row = |image: &InspectedImage| {
        let held_parts = image.parts.iter().filter(|part| is_served(part)).count();
        vec![
            html! { (foreign(image.platform.as_deref().unwrap_or("none"))) },
            digest_link(repository, &image.digest),
            html! {
                @if image.is_whole { span.tag.good { "whole" } }
                @else if image.is_held { span.tag.warn { "lacks blobs" } }
                @else { span.tag { "not pulled" } }
            },
            html! { @if image.is_held { (held_parts) " of " (image.parts.len()) } @else { "–" } },
            html! { (size(image.size_bytes + parts_bytes(image))) },
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    table("Platforms", &columns, &rows, "It lists nothing.")
}

const fn is_served(part: &InspectedPart) -> bool {
    part.is_stored && part.is_granted
}

fn parts(repository: Option<&str>, parts: &[InspectedPart]) -> Markup {
    let columns = [text("Part"), long("Digest"), number("Size"), text("Held")];
    let row = |part: &InspectedPart| {
        vec![
            html! { (part.role) },
            whole_digest_link(repository, &part.digest),
            html! { (size(part.size_bytes)) },
            html! {
                @if is_served(part) { span.tag.good { "held" } }
                @else if part.is_stored { span.tag.warn { "stored, not yet proved" } }
                @else { span.tag.bad { "not held" } }
            },
        ]
    };
    let rows: Vec<_> = parts.iter().take(MAX_ROWS).map(row).collect();
    html! {
        (table("Contents", &columns, &rows, "It lists nothing."))
        @if parts.len() > rows.len() { p.none { "and " (count((parts.len() - rows.len()) as u64)) " more" } }
    }
}

/// Names and values that a registry or a builder has chosen: they may be anything.
fn pairs<'a>(id: &str, title: &str, pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Markup {
    let total = pairs.len();
    html! {
        @if total > 0 {
            section aria-labelledby=(id) {
                h2 id=(id) { (title) }
                dl.pairs {
                    @for (key, value) in pairs.take(MAX_ROWS) {
                        div { dt { (foreign(key)) } dd { (foreign(value)) } }
                    }
                }
                @if total > MAX_ROWS { p.none { "and " (count((total - MAX_ROWS) as u64)) " more" } }
            }
        }
    }
}

fn config_of(config: &Value) -> Markup {
    let labels = config.pointer("/config/Labels").and_then(Value::as_object);
    let labels: Vec<_> =
        labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect();
    let whole = serde_json::to_string_pretty(config).unwrap_or_default();
    html! {
        (pairs("labels", "Labels", labels.into_iter()))
        section aria-labelledby="config" {
            h2 id="config" { "Config" }
            details {
                summary { "Show the config" }
                pre tabindex="0" { code { (visible(&whole, MAX_CONFIG)) } }
            }
        }
    }
}

fn referrers(found: &Inspection) -> Markup {
    let columns = [text("Type"), text("Manifest"), number("Size"), text("Annotations")];
    let word =
        |descriptor: &Value, key: &str| descriptor.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |descriptor: &Value| {
        let digest = word(descriptor, "digest").parse().ok();
        let kind =
            [word(descriptor, "artifactType"), word(descriptor, "mediaType")].into_iter().find(|kind| !kind.is_empty());
        let notes = descriptor.get("annotations").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![
            html! { code { (foreign(&kind.unwrap_or_default())) } },
            html! { @if let Some(digest) = &digest { (digest_link(found.repository.as_deref(), digest)) } @else { "–" } },
            html! { (size(descriptor.get("size").and_then(Value::as_u64).unwrap_or_default())) },
            html! { (notes) },
        ]
    };
    let rows: Vec<_> = found.referrers.iter().take(MAX_ROWS).map(row).collect();
    html! {
        @if found.repository.is_some() && found.kind != Kind::Unknown {
            section aria-labelledby="referrers" {
                h2 id="referrers" { "Referrers" }
                (table("Referrers", &columns, &rows, "No signature, SBOM or other referrer of it is held."))
                @if found.referrers.len() > rows.len() {
                    p.none { "and " (count((found.referrers.len() - rows.len()) as u64)) " more" }
                }
            }
        }
    }
}
