//! `gc`: evicts now, to a size or by age.

use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use roadstead::cache::retention::Gc;
use roadstead::jobs::change::collect;
use serde_json::json;

use crate::cli::output::{flag, number, print, print_json, report, size};
use crate::cli::reach::{Reach, Request};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Options {
    /// Until no more is used, as in "50GiB".
    #[arg(long, value_name = "SIZE")]
    to: Option<ByteSize>,
    /// What was not used for so long, as in "30d".
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    unused_for: Option<Duration>,
}

pub(in crate::cli) fn run(reach: &Reach, options: &Options, as_json: bool) -> Result<(), ExitCode> {
    let (gc, order) = match (options.to, options.unused_for) {
        (Some(to), _) => (Gc::To(to.as_u64()), json!({ "to": format!("{}B", to.as_u64()) })),
        (None, age) => {
            let age = age.unwrap_or_default();
            (Gc::UnusedFor(age), json!({ "unused_for": humantime::format_duration(age).to_string() }))
        }
    };
    let (mut blobs, mut bytes) = (0, 0);
    loop {
        let answer = reach.answer(Request::post("/api/v1/gc").with(&order), async |mirror| {
            Ok(serde_json::to_value(collect(mirror, gc).await).unwrap_or_default())
        })?;
        blobs += number(&answer, "evicted_blobs");
        bytes += number(&answer, "evicted_bytes");
        let used = number(&answer, "used_bytes");
        if !flag(&answer, "done") {
            report(&format!("{} evicted so far", size(bytes)));
            continue;
        }
        if as_json {
            print_json(&json!({ "evicted_blobs": blobs, "evicted_bytes": bytes, "used_bytes": used }));
        } else {
            print(&format!("{blobs} blobs with {} were evicted; {} are used", size(bytes), size(used)));
        }
        let is_reached = options.to.is_none_or(|to| used <= to.as_u64());
        if is_reached {
            return Ok(());
        }
        return Err(crate::cli::output::failed(
            "nothing more may go: the rest is pinned, being used, or cannot come again",
        ));
    }
}
