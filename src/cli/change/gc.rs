//! `gc`: evicts now, to a size or by age.

use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use roadstead::cache::retention::Gc;
use roadstead::jobs::change::LongChange;
use serde_json::{Value, json};

use crate::cli::carry::follow::Shown;
use crate::cli::output::{failed, number, print, print_json, size};
use crate::cli::reach::Reach;

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
    let mut shown = Shown::new(as_json, false);
    let here = |_: &_| Ok(LongChange::Gc(gc));
    let job = super::change(reach, &mut shown, "/api/v1/gc", &[super::order(order)], here)?;
    let nothing = json!({});
    let gone = job.get("evicted").unwrap_or(&nothing);
    let (blobs, bytes) = (number(gone, "evicted_blobs"), number(gone, "evicted_bytes"));
    let used = number(gone, "used_bytes");
    if as_json {
        print_json(&json!({ "evicted_blobs": blobs, "evicted_bytes": bytes, "used_bytes": used }));
    } else {
        print(&format!("{blobs} blobs with {} were evicted; {} are used", size(bytes), size(used)));
    }
    if let Some(problem) = job.get("problem").and_then(Value::as_str) {
        return Err(failed(problem));
    }
    if options.to.is_none_or(|to| used <= to.as_u64()) {
        return Ok(());
    }
    Err(failed("nothing more may go: the rest is pinned, being used, or cannot come again"))
}
