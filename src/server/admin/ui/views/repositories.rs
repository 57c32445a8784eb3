//! Repositories that are held, and how to find one.

use maud::{Markup, html};

use crate::jobs::look::{Repositories, RepositoryRow, UsageReport};
use crate::server::admin::ui::frame::View;
use crate::server::admin::ui::table::{number, pager, table, text};
use crate::server::admin::ui::text::{ago, count, link, size};

/// What was asked for.
pub(in crate::server::admin::ui) struct Question<'a> {
    /// What was typed.
    pub(in crate::server::admin::ui) search: &'a str,
    /// The name of the order.
    pub(in crate::server::admin::ui) sort: &'a str,
    pub(in crate::server::admin::ui) is_first: bool,
}

const SORTS: [(&str, &str); 6] = [
    ("name", "name"),
    ("size", "size"),
    ("own", "own size"),
    ("used", "last use"),
    ("tags", "tags"),
    ("manifests", "manifests"),
];

pub(in crate::server::admin::ui) fn repositories(
    asked: &Question<'_>,
    found: &Repositories,
    usage: &UsageReport,
) -> View {
    let to = |sort: &str, after: Option<&str>| {
        let mut query = vec![("q", asked.search), ("sort", sort)];
        query.extend(after.map(|after| ("after", after)));
        link("/repositories", &query)
    };
    let sort = asked.sort;
    let body = html! {
        h1 { "Repositories" }
        @if asked.search.is_empty() { (registries(usage)) }
        div.bar {
            p {
                @if asked.search.is_empty() { "Held: " (count(found.total as u64)) }
                @else { (count(found.total as u64)) " found for " q { (asked.search) } " · " a href="/repositories" { "All" } }
            }
            nav.sorts aria-label="Order" {
                span { "By" }
                @for (name, label) in SORTS {
                    a href=(to(name, None)) aria-current=[(name == sort).then_some("true")] { (label) }
                }
            }
        }
        (rows(found))
        (pager((!asked.is_first).then(|| to(sort, None)), found.next.as_deref().map(|next| to(sort, Some(next)))))
    };
    View { title: "Repositories".to_owned(), tab: Some("/repositories"), body }
}

fn rows(found: &Repositories) -> Markup {
    let columns = [
        text("Repository"),
        number("Tags"),
        number("Manifests"),
        number("Own"),
        number("Shared"),
        number("Last copy"),
        text("Used"),
    ];
    let row = |row: &RepositoryRow| {
        vec![
            html! { a href=(link("/repository", &[("name", &row.repository)])) { (row.repository) } },
            html! { (count(row.tags)) },
            html! { (count(row.manifests)) },
            html! { (size(row.own_bytes)) },
            html! { (size(row.shared_bytes)) },
            html! { @if row.last_copy_bytes > 0 { (size(row.last_copy_bytes)) } @else { "–" } },
            html! { @if let Some(used) = row.used { (ago(found.as_of, used)) } @else { "–" } },
        ]
    };
    let rows: Vec<_> = found.repositories.iter().map(row).collect();
    table("Repositories", &columns, &rows, "No repository of this name is held. What nobody has pulled is not here.")
}

fn registries(usage: &UsageReport) -> Markup {
    let columns = [text("Registry"), number("Repositories"), number("Own"), number("Shared"), number("Last copy")];
    let row = |row: &crate::jobs::look::AuthorityRow| {
        vec![
            html! { a href=(link("/repositories", &[("q", &format!("{}/**", row.authority))])) { (row.authority) } },
            html! { (count(row.repositories)) },
            html! { (size(row.own_bytes)) },
            html! { (size(row.shared_bytes)) },
            html! { @if row.last_copy_bytes > 0 { (size(row.last_copy_bytes)) } @else { "–" } },
        ]
    };
    let rows: Vec<_> = usage.authorities.iter().map(row).collect();
    html! {
        (table("Registries", &columns, &rows, "Nothing is held yet."))
        p.none {
            (size(usage.stored_bytes)) " are stored"
            @if usage.unreachable_bytes > 0 { "; of these, " (size(usage.unreachable_bytes)) " can be read in no repository" }
            "."
        }
    }
}
