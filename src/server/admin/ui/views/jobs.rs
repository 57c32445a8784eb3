//! Long work: jobs, the lists that are kept warm, and verification.

use maud::{Markup, html};

use crate::clock::Timestamp;
use crate::jobs::warm::schedule::WarmState;
use crate::jobs::{Job, JobReport, JobState, State};
use crate::server::admin::ui::frame::View;
use crate::server::admin::ui::table::{facts, number, table, text};
use crate::server::admin::ui::text::{ago, count, foreign, size};

pub(in crate::server::admin::ui) fn jobs(
    (now, may_change): (Timestamp, bool),
    jobs: &[JobReport],
    warm: &[WarmState],
    verify: Option<&Job>,
) -> View {
    let body = html! {
        h1 { "Jobs" }
        section aria-labelledby="verify" {
            h2 id="verify" { "Verification" }
            (verification(now, verify))
            @if may_change {
                form.filter method="post" action="/verify" {
                    label for="rate" { "Rate" }
                    input id="rate" name="rate" placeholder="50MiB/s" maxlength="40" aria-describedby="rate-note";
                    button { "Verify all blobs" }
                    span.note id="rate-note" { "Without one, that of the configuration." }
                }
            }
        }
        @if !warm.is_empty() {
            section aria-labelledby="warm" {
                h2 id="warm" { "Lists that are kept warm" }
                (warm_lists(now, warm))
            }
        }
        section aria-labelledby="jobs" {
            h2 id="jobs" { "Warm, export, import" }
            (all(now, jobs))
        }
    };
    View { title: "Jobs".to_owned(), tab: Some("/jobs"), body }
}

fn verification(now: Timestamp, job: Option<&Job>) -> Markup {
    let Some(job) = job else { return html! { p.none { "No pass was asked for since the start." } } };
    let ended = job.report.as_ref();
    html! {
        (facts(vec![
            ("State", Some(match job.state {
                State::Running => html! { span.tag { "runs" } },
                State::Done => html! { span.tag.good { "done" } },
                State::Stopped => html! { span.tag.warn { "stopped" } },
            })),
            ("Begun", Some(ago(now, job.begun))),
            ("Read", Some(html! { (count(job.blobs)) " blobs, " (size(job.bytes)) " of " (size(job.bytes_total)) })),
            ("Wrong", Some(html! { (count(job.wrong)) })),
            ("Missing", Some(html! { (count(job.missing)) })),
            ("Lost", ended.map(|report| html! { (report.lost.len()) })),
            ("Unreadable", ended.map(|report| html! { (report.unreadable.len()) })),
        ]))
    }
}

fn warm_lists(now: Timestamp, warm: &[WarmState]) -> Markup {
    let columns = [text("List"), text("State"), number("Images"), number("Failed"), text("Whole"), text("Problem")];
    let row = |list: &WarmState| {
        vec![
            html! { (list.name) },
            html! { @if let Some(state) = list.state { (state_of(state)) } @else { span.tag { "waits" } } },
            html! { (count(list.items)) },
            html! { (count(list.failed)) },
            html! { @if let Some(at) = list.last_good { (ago(now, at)) } @else { "–" } },
            html! { (list.problem.as_deref().map_or_else(|| "–".to_owned(), foreign)) },
        ]
    };
    let rows: Vec<_> = warm.iter().map(row).collect();
    table("Lists that are kept warm", &columns, &rows, "There are none.")
}

fn all(now: Timestamp, jobs: &[JobReport]) -> Markup {
    let columns =
        [text("Job"), text("State"), text("Begun"), number("Items"), number("Failed"), number("Bytes"), text("Note")];
    let row = |job: &JobReport| {
        vec![
            html! { (job.id) },
            state_of(job.state),
            ago(now, job.begun),
            html! { (count(job.items)) @if let Some(total) = job.items_total { " of " (count(total)) } },
            html! { (count(job.failed)) },
            html! { (size(job.bytes)) },
            html! { (job.problem.as_deref().or(job.note.as_deref()).map_or_else(|| "–".to_owned(), foreign)) },
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table("Jobs", &columns, &rows, "No job was begun since the start. The commands warm, export and import begin one.")
}

fn state_of(state: JobState) -> Markup {
    match state {
        JobState::Running => html! { span.tag { "runs" } },
        JobState::Done => html! { span.tag.good { "done" } },
        JobState::Stopped => html! { span.tag.warn { "stopped" } },
        JobState::Failed => html! { span.tag.bad { "failed" } },
    }
}
