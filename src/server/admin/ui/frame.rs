//! What all pages have in common: the head, the ways between them, search, and who is signed in.

use maud::{DOCTYPE, Markup, html};

use super::session::Visitor;

/// What a page shows within the frame.
pub(super) struct View {
    pub(super) title: String,
    /// The entry of the navigation that it belongs to.
    pub(super) tab: Option<&'static str>,
    pub(super) body: Markup,
}

/// Path and name.
const TABS: [(&str, &str); 4] =
    [("/", "Overview"), ("/repositories", "Repositories"), ("/pins", "Pins"), ("/jobs", "Jobs")];

/// A whole page.
pub(super) fn frame(visitor: Visitor, view: &View, search: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (view.title) " · Roadstead" }
                link rel="stylesheet" href=(concat!("/page.css?v=", env!("CARGO_PKG_VERSION")));
                link rel="icon" type="image/svg+xml" href="/icon.svg";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.mark href="/" { "Roadstead" }
                    @if visitor.may_read() {
                        nav aria-label="Main" {
                            @for (path, name) in TABS {
                                a href=(path) aria-current=[(view.tab == Some(path)).then_some("page")] { (name) }
                            }
                        }
                        form.search role="search" method="get" action="/repositories" {
                            input type="search" name="q" value=(search) aria-label="Repository, image or digest"
                                placeholder="Repository, image or digest" maxlength="400";
                            button { "Search" }
                        }
                    }
                    (session(visitor))
                }
                main id="main" tabindex="-1" {
                    (view.body)
                }
                footer {
                    span { "Roadstead " (env!("CARGO_PKG_VERSION")) }
                    @if visitor.is_open {
                        a href="/api/v1/openapi.json" { "API" }
                        a href="/metrics" { "Metrics" }
                    }
                }
            }
        }
    }
}

fn session(visitor: Visitor) -> Markup {
    html! {
        @if visitor.has_session {
            form.session method="post" action="/sign-out" { button.quiet { "Sign out" } }
        } @else if visitor.has_token_to_show && !visitor.may_change && visitor.is_open {
            a.session href="/sign-in" { "Sign in" }
        }
    }
}

/// A form with one button. Its fields are hidden.
pub(super) fn button(action: &str, fields: &[(&str, &str)], label: &str) -> Markup {
    html! {
        form.act method="post" action=(action) {
            @for (name, value) in fields {
                input type="hidden" name=(name) value=(value);
            }
            button { (label) }
        }
    }
}
