//! Pins: what is never evicted.

use maud::html;

use crate::jobs::PinEntry;
use crate::server::admin::ui::frame::{View, button};
use crate::server::admin::ui::table::{table, text};
use crate::server::admin::ui::text::short;

pub(in crate::server::admin::ui) fn pins(may_change: bool, pins: &[PinEntry]) -> View {
    let mut columns = vec![text("Pattern"), text("Answers with"), text("Made by")];
    if may_change {
        columns.push(text("Change"));
    }
    let row = |pin: &PinEntry| {
        let mut cells = vec![
            html! { code { (pin.pattern) } },
            html! {
                @if let Some(digest) = &pin.digest { code title=(digest) { (short(&digest.to_string())) } }
                @else { "what its registry says" }
            },
            html! { @if pin.configured { "the configuration" } @else { "a command" } },
        ];
        if may_change {
            cells.push(html! {
                @if pin.configured { "–" }
                @else { (button("/unpin", &[("pattern", pin.pattern.as_str())], "Remove")) }
            });
        }
        cells
    };
    let rows: Vec<_> = pins.iter().map(row).collect();
    let body = html! {
        h1 { "Pins" }
        p.none { "What a pin matches is never evicted. A pin to a digest also fixes what the tag answers with." }
        @if may_change {
            form.filter method="post" action="/pin" {
                label for="pattern" { "New pin" }
                input id="pattern" name="pattern" required placeholder="docker.io/library/**" maxlength="1000";
                button { "Add" }
            }
        }
        (table("Pins", &columns, &rows, "There are no pins."))
    };
    View { title: "Pins".to_owned(), tab: Some("/pins"), body }
}
