//! Tables that are read by eye on any screen, and by screen readers. Where there is little room, each row is a block; then
//! roles keep it a table (CSS would take that away), and each cell tells its column.

use maud::{Markup, html};

pub(super) struct Column {
    label: &'static str,
    class: Option<&'static str>,
}

pub(super) const fn text(label: &'static str) -> Column {
    Column { label, class: None }
}

/// Of texts that need a line of their own where there is little room.
pub(super) const fn long(label: &'static str) -> Column {
    Column { label, class: Some("long") }
}

pub(super) const fn number(label: &'static str) -> Column {
    Column { label, class: Some("number") }
}

/// A table with a name. The first cell of a row is its heading. Without rows, `none` is said.
pub(super) fn table(name: &str, columns: &[Column], rows: &[Vec<Markup>], none: &str) -> Markup {
    if rows.is_empty() {
        return html! { p.none { (none) } };
    }
    html! {
        table role="table" aria-label=(name) {
            thead role="rowgroup" {
                tr role="row" {
                    @for column in columns {
                        th role="columnheader" scope="col" class=[column.class] { (column.label) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (nth, (column, cell)) in columns.iter().zip(row).enumerate() {
                            @if nth == 0 {
                                th role="rowheader" scope="row" class=[column.class] { (cell) }
                            } @else {
                                td role="cell" data-label=(column.label) class=[column.class] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Names and values. Those without a value are left out.
pub(super) fn facts(of: Vec<(&str, Option<Markup>)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in of {
                @if let Some(value) = value {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}

/// Links to the first and to the next page of a list.
pub(super) fn pager(first: Option<String>, next: Option<String>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav.pager aria-label="Pages" {
                @if let Some(first) = first { a href=(first) { "First page" } }
                @if let Some(next) = next { a href=(next) rel="next" { "Next page" } }
            }
        }
    }
}
