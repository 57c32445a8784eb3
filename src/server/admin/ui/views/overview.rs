//! All at a glance: what is wrong, what was saved, upstreams, what is being downloaded, what failed, what was slow.

use maud::{Markup, html};

use crate::clock::Timestamp;
use crate::jobs::Status;
use crate::jobs::look::{Activity, LoggedWarning, UpstreamActivity};
use crate::mirror::RunningFill;
use crate::recent::{Asked, FailedPull, SlowPull};
use crate::server::admin::ui::frame::View;
use crate::server::admin::ui::table::{number, table, text};
use crate::server::admin::ui::text::{
    ago, count, digest_link, foreign, image_link, lasted, many, percent, short, size,
};
use crate::upstream::Trouble;

/// Images that are not whole, by name.
const MAX_EXAMPLES: usize = 5;

pub(in crate::server::admin::ui) fn overview(status: &Status, activity: &Activity) -> View {
    let now = activity.as_of;
    let body = html! {
        h1.unseen { "Overview" }
        (condition(now, status))
        (figures(now, status, activity))
        section aria-labelledby="upstreams" {
            h2 id="upstreams" { "Upstreams" }
            (upstreams(activity, &status.upstream_troubles))
        }
        section aria-labelledby="filling" {
            h2 id="filling" { "Downloads" }
            (filling(activity))
        }
        div.beside {
            section aria-labelledby="failed" {
                h2 id="failed" { "Last failures" }
                (failed(now, &activity.failed))
            }
            section aria-labelledby="slow" {
                h2 id="slow" { "Slowest answers of a day" }
                (slow(now, &activity.slow))
            }
        }
        (warnings(now, &activity.warnings))
        (incomplete(status))
    };
    View { title: "Overview".to_owned(), tab: Some("/"), body }
}

/// What is wrong, and what to do.
fn condition(now: Timestamp, status: &Status) -> Markup {
    let lost = status.lost.unwrap_or(0);
    html! {
        @if status.degraded.is_empty() && status.upstream_troubles.is_empty() && lost == 0 {
            p.state.good { strong { "All is well." } " Storage and upstreams answer." }
        } @else {
            ul.states {
                @for part in &status.degraded {
                    li.state.bad { strong { (part.part) " is degraded: " } (foreign(&part.why)) }
                }
                @for trouble in &status.upstream_troubles {
                    li.state.warn {
                        strong { (trouble.upstream) " is " (trouble.trouble.name()) } " since " (ago(now, trouble.since)) ": "
                        (foreign(&trouble.why)) "; " (trouble.meanwhile) "."
                        span.remedy { (trouble.remedy) }
                    }
                }
                @if lost > 0 {
                    li.state.bad {
                        strong { "Lost: " }
                        (many(lost as u64, "blob")) " found wrong or missing, which no registry gives again."
                        span.remedy { "the command roadstead lost names them" }
                    }
                }
            }
        }
    }
}

fn figures(now: Timestamp, status: &Status, activity: &Activity) -> Markup {
    let total = &activity.total;
    let requests = total.hits + total.stale + total.misses + total.joined;
    html! {
        dl.figures {
            div {
                dt { "Hit ratio" }
                dd { (total.hit_ratio.map_or_else(|| "–".to_owned(), percent)) }
                dd.note { (many(requests, "answer")) " since the start, " (ago(now, activity.since)) }
            }
            div {
                dt { "Saved" }
                dd { (size(total.saved_bytes)) }
                dd.note { (size(total.served_bytes)) " served, " (size(total.received_bytes)) " from upstream" }
            }
            div {
                dt { "Held" }
                dd { (size(status.used_bytes)) }
                dd.note {
                    @if let Some(most) = status.max_size {
                        (gauge("Part of max_size in use", status.used_bytes, most)) " of " (size(most))
                    } @else {
                        "without a limit"
                        @if status.min_free > 0 { "; " (size(status.min_free)) " of the disk stay free" }
                    }
                }
            }
            div {
                dt { "Images whole" }
                dd { (status.images.as_ref().map_or_else(|| "–".to_owned(), |images| count(images.whole))) }
                dd.note {
                    @if let Some(images) = &status.images { (count(images.incomplete)) " incomplete" }
                    @else { "not counted yet" }
                }
            }
            div {
                dt { "Answering" }
                dd { (count(activity.answering)) }
                dd.note { (many(activity.filling_total as u64, "download")) " running or waiting" }
            }
            div {
                dt { "Evicted" }
                dd { (size(total.evicted_bytes)) }
                dd.note { (many(total.evicted_blobs, "blob")) " since the start" }
            }
        }
    }
}

fn gauge(name: &str, value: u64, most: u64) -> Markup {
    html! { progress aria-label=(name) value=(value.min(most)) max=(most.max(1)) {} }
}

fn upstreams(activity: &Activity, troubles: &[Trouble]) -> Markup {
    let columns = [
        text("Upstream"),
        text("State"),
        number("Ration left"),
        number("Hit ratio"),
        number("Hits"),
        number("Fetched"),
        number("Joined"),
        number("Stale"),
        number("Saved"),
        number("Held"),
        number("Evicted"),
    ];
    let row = |upstream: &UpstreamActivity| {
        let traffic = &upstream.traffic;
        let trouble = troubles.iter().find(|trouble| trouble.upstream == upstream.upstream);
        vec![
            html! {
                (upstream.upstream)
                @for endpoint in upstream.endpoints.iter().filter(|endpoint| endpoint.endpoint != upstream.upstream) {
                    span.note { (endpoint.endpoint) }
                }
            },
            upstream_state(upstream, trouble),
            html! { (upstream.ration_left.map_or_else(|| "–".to_owned(), |left| left.to_string())) },
            html! { (traffic.hit_ratio.map_or_else(|| "–".to_owned(), percent)) },
            html! { (count(traffic.hits)) },
            html! { (count(traffic.misses)) },
            html! { (count(traffic.joined)) },
            html! { (count(traffic.stale)) },
            html! { (size(traffic.saved_bytes)) },
            html! { (size(upstream.used_bytes)) },
            html! { (size(traffic.evicted_bytes)) },
        ]
    };
    let rows: Vec<_> = activity.upstreams.iter().map(row).collect();
    table("Upstreams", &columns, &rows, "No upstream is configured.")
}

fn upstream_state(upstream: &UpstreamActivity, trouble: Option<&Trouble>) -> Markup {
    let refuses = |asks: fn(&crate::upstream::EndpointState) -> bool| {
        !upstream.endpoints.is_empty() && !upstream.endpoints.iter().any(asks)
    };
    let (manifests, blobs) =
        (refuses(|endpoint| endpoint.is_asked_for_manifests), refuses(|endpoint| endpoint.is_asked_for_blobs));
    html! {
        @if upstream.offline { span.tag { "offline" } }
        @else if let Some(trouble) = trouble { span.tag.warn { (trouble.trouble.name()) } }
        @else if manifests && blobs { span.tag.warn { "not asked now" } }
        @else if manifests { span.tag.warn { "manifests not asked now" } }
        @else if blobs { span.tag.warn { "blobs not asked now" } }
        @else { span.tag.good { "well" } }
    }
}

fn filling(activity: &Activity) -> Markup {
    let columns =
        [text("Blob"), text("Repository"), text("Progress"), number("Received"), number("Size"), number("Since")];
    let row = |fill: &RunningFill| {
        let repository = fill.repository.as_ref().map(|repository| format!("{}/{repository}", fill.authority));
        vec![
            digest_link(repository.as_deref(), &fill.digest),
            html! { (repository.as_deref().unwrap_or_else(|| fill.authority.as_str())) },
            html! {
                @if fill.is_waiting { span.tag { "waits" } }
                @else if let Some(whole) = fill.size_bytes { (gauge("Part that has come", fill.received_bytes, whole)) }
                @else { span.tag { "runs" } }
                @if !fill.is_asked { " " span.tag { "ahead of need" } }
            },
            html! { (size(fill.received_bytes)) },
            html! { (fill.size_bytes.map_or_else(|| "–".to_owned(), size)) },
            html! { (lasted(fill.ms)) },
        ]
    };
    let rows: Vec<_> = activity.filling.iter().map(row).collect();
    html! {
        (table("Downloads", &columns, &rows, "Nothing is being downloaded."))
        @if activity.filling_total > rows.len() {
            p.none { "and " (count((activity.filling_total - rows.len()) as u64)) " more" }
        }
    }
}

fn failed(now: Timestamp, failures: &[FailedPull]) -> Markup {
    html! {
        @if failures.is_empty() { p.none { "No request has failed since the start." } }
        ol.log {
            @for failure in failures {
                li {
                    p.what {
                        span.tag.bad { (failure.status) } " " (what(&failure.asked))
                        @if failure.count > 1 { " " span.tag { (count(failure.count)) " times" } }
                        " " span.note { (ago(now, failure.at)) }
                    }
                    p { (foreign(&failure.error)) }
                    @if !failure.remedy.is_empty() { p.remedy { (failure.remedy) } }
                }
            }
        }
    }
}

fn slow(now: Timestamp, pulls: &[SlowPull]) -> Markup {
    let columns =
        [text("Asked for"), text("Outcome"), number("Took"), number("First byte"), number("Size"), text("When")];
    let row = |pull: &SlowPull| {
        vec![
            what(&pull.asked),
            html! { (pull.outcome) },
            html! { (lasted(pull.ms)) },
            html! { (pull.first_byte_ms.map_or_else(|| "–".to_owned(), lasted)) },
            html! { (size(pull.bytes)) },
            ago(now, pull.at),
        ]
    };
    let rows: Vec<_> = pulls.iter().map(row).collect();
    html! {
        (table("Slowest answers", &columns, &rows, "No answer took longer than a second."))
        @if !rows.is_empty() {
            p.none { "A late first byte is this mirror or its upstream; a late end may be the client." }
        }
    }
}

/// What a request was for, as a link where it leads to content.
fn what(asked: &Asked) -> Markup {
    let Asked { kind, authority, repository, reference, .. } = asked;
    let is_digest = reference.contains(':');
    let name = format!("{authority}/{repository}");
    let whole = format!("{name}{}{reference}", if is_digest { '@' } else { ':' });
    let shown = if is_digest { short(reference) } else { reference.as_str() };
    html! {
        span.kind { (kind) } " "
        @if authority.is_empty() { code { (foreign(repository)) (foreign(reference)) } }
        @else if matches!(*kind, "manifest" | "blob") && !reference.is_empty() {
            a href=(image_link(&whole)) title=(whole) { (name) @if is_digest { "@" } @else { ":" } (shown) }
        } @else { (name) }
    }
}

fn warnings(now: Timestamp, warnings: &[LoggedWarning]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            section aria-labelledby="warnings" {
                h2 id="warnings" { "Last warnings in the log" }
                ol.log {
                    @for warning in warnings {
                        li {
                            p {
                                (foreign(&warning.text)) " "
                                @if warning.count > 1 { span.tag { (count(warning.count)) " times" } " " }
                                span.note { (ago(now, warning.at)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn incomplete(status: &Status) -> Markup {
    let examples = status.images.as_ref().map_or(&[][..], |images| images.examples.as_slice());
    html! {
        @if !examples.is_empty() {
            section aria-labelledby="incomplete" {
                h2 id="incomplete" { "Images that lack blobs" }
                ul.plain {
                    @for image in examples.iter().take(MAX_EXAMPLES) {
                        @let name = format!("{}/{}", image.authority, image.repository);
                        li {
                            (name) " " (digest_link(Some(&name), &image.digest)) " "
                            span.note { (many(image.missing as u64, "blob")) " missing, " (image.unproven) " not yet proved" }
                        }
                    }
                }
            }
        }
    }
}
