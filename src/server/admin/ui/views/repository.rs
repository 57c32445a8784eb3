//! The tags of a repository, with where each pointed before.

use maud::{Markup, html};

use crate::clock::Timestamp;
use crate::jobs::look::{Kind, Moved, TagEntry, Tags, Wholeness};
use crate::mirror::TagState;
use crate::server::admin::ui::frame::{View, button};
use crate::server::admin::ui::table::{pager, table, text};
use crate::server::admin::ui::text::{ago, digest_link, foreign, image_link, link};

/// Which part of it.
pub(in crate::server::admin::ui) struct Question<'a> {
    /// Empty for all.
    pub(in crate::server::admin::ui) glob: &'a str,
    pub(in crate::server::admin::ui) is_first: bool,
    pub(in crate::server::admin::ui) may_change: bool,
    pub(in crate::server::admin::ui) now: Timestamp,
}

pub(in crate::server::admin::ui) fn repository(asked: &Question<'_>, found: &Tags) -> View {
    let name = found.repository.as_str();
    let to = |after: Option<&str>| {
        let mut query = vec![("name", name), ("glob", asked.glob)];
        query.extend(after.map(|after| ("after", after)));
        link("/repository", &query)
    };
    let body = html! {
        p.trail { a href="/repositories" { "Repositories" } }
        h1.name { (name) }
        @if asked.may_change {
            div.acts {
                (button("/refresh", &[("glob", &format!("{name}:*"))], "Refresh all tags"))
                (button("/pin", &[("pattern", name)], "Pin the repository"))
            }
        }
        form.filter method="get" action="/repository" {
            input type="hidden" name="name" value=(name);
            label for="glob" { "Tags" }
            input id="glob" name="glob" value=(asked.glob) placeholder="1.*" maxlength="200";
            button { "Filter" }
        }
        (rows(asked.now, found))
        (pager((!asked.is_first).then(|| to(None)), found.next.as_deref().map(|next| to(Some(next)))))
    };
    View { title: name.to_owned(), tab: Some("/repositories"), body }
}

fn rows(now: Timestamp, found: &Tags) -> Markup {
    let columns = [
        text("Tag"),
        text("Digest"),
        text("Kind"),
        text("Held"),
        text("Platforms"),
        text("State"),
        text("Checked"),
        text("History"),
    ];
    let row = |entry: &TagEntry| {
        let reference = format!("{}:{}", found.repository, entry.tag);
        vec![
            html! { a href=(image_link(&reference)) { (entry.tag) } },
            html! { @if let Some(digest) = &entry.digest { (digest_link(Some(&found.repository), digest)) } @else { "–" } },
            html! { (kind_name(entry.kind)) },
            held(entry.held),
            html! { @if entry.platforms.is_empty() { "–" } @else { (foreign(&entry.platforms.join(", "))) } },
            html! {
                (state(entry.state))
                @if let Some(alias) = &entry.alias { " " span.note { (alias) } }
            },
            ago(now, entry.checked),
            html! {
                @if entry.history.len() > 1 {
                    details { summary { (entry.history.len()) " digests" } (history(now, &found.repository, &entry.history)) }
                } @else { "–" }
            },
        ]
    };
    let rows: Vec<_> = found.tags.iter().map(row).collect();
    table("Tags", &columns, &rows, "No tag of this name is held.")
}

/// Where a tag pointed; the last one comes first.
pub(super) fn history(now: Timestamp, repository: &str, moved: &[Moved]) -> Markup {
    html! {
        ol.history {
            @for entry in moved.iter().rev() {
                li { (digest_link(Some(repository), &entry.digest)) " " span.note { "since " (ago(now, entry.since)) } }
            }
        }
    }
}

pub(super) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Index => "index",
        Kind::Image => "image",
        Kind::Artifact => "artifact",
        Kind::Unknown => "not held",
    }
}

/// Whether it could be pulled if no upstream answered.
pub(super) fn held(wholeness: Wholeness) -> Markup {
    match wholeness {
        Wholeness::Whole => html! { span.tag.good { "whole" } },
        Wholeness::Partial => html! { span.tag.warn { "some platforms" } },
        Wholeness::Incomplete => html! { span.tag.bad { "incomplete" } },
    }
}

pub(super) fn state(state: TagState) -> Markup {
    match state {
        TagState::Fresh => html! { span.tag.good { "fresh" } },
        TagState::Stale => html! { span.tag.warn { "stale" } },
        TagState::Due => html! { span.tag { "to be checked" } },
        TagState::Gone => html! { span.tag.bad { "gone upstream" } },
        TagState::Pinned => html! { span.tag { "pinned" } },
        TagState::Alias => html! { span.tag { "alias" } },
    }
}
