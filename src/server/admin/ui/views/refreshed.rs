//! What a refresh has found.

use maud::html;

use crate::jobs::change::Refreshed;
use crate::jobs::{ItemDetails, JobItem, JobOutcome};
use crate::server::admin::ui::frame::View;
use crate::server::admin::ui::table::{table, text};
use crate::server::admin::ui::text::{foreign, image_link, short};

pub(in crate::server::admin::ui) fn refreshed(glob: &str, done: &Refreshed) -> View {
    let columns = [text("Tag"), text("Outcome"), text("Digest"), text("Problem")];
    let row = |item: &JobItem| {
        vec![
            html! { a href=(image_link(&item.item)) { (item.item) } },
            match item.outcome {
                JobOutcome::Done => html! { span.tag.good { "moved" } },
                JobOutcome::Held => html! { span.tag { "as before" } },
                JobOutcome::Missing => html! { span.tag.warn { "gone upstream" } },
                JobOutcome::Refused => html! { span.tag.bad { "refused" } },
                JobOutcome::Failed => html! { span.tag.bad { "failed" } },
            },
            html! {
                @if let Some(ItemDetails::Refreshed { digest: Some(digest) }) = &item.details { code title=(digest) { (short(&digest.to_string())) } } @else { "–" }
            },
            html! { (item.problem.as_deref().map_or_else(|| "–".to_owned(), foreign)) },
        ]
    };
    let rows: Vec<_> = done.items.iter().map(row).collect();
    let body = html! {
        h1 { "Refreshed" }
        p.none { "Tags of " code { (glob) } " were checked with their registry." }
        (table("Tags", &columns, &rows, "No tag of this name is held."))
        @if let Some(next) = &done.next {
            form.act method="post" action="/refresh" {
                input type="hidden" name="glob" value=(glob);
                input type="hidden" name="after" value=(next);
                button { "Go on with the next tags" }
            }
        }
    };
    View { title: "Refreshed".to_owned(), tab: Some("/repositories"), body }
}
