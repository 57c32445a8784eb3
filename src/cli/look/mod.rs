//! Commands that look at what is held.

mod coverage;
mod explain;
mod inspect;
mod pages;
mod repositories;
mod tags;
mod who;

use std::process::ExitCode;
use std::str::FromStr;

use roadstead::clock::{Clock, Timestamp};
use serde_json::Value;

use super::output::usage;

pub(super) use coverage::{Options as CoverageOptions, run as coverage};
pub(super) use explain::{Question, run as explain};
pub(super) use inspect::run as inspect;
pub(super) use repositories::{du, ls};
pub(super) use tags::{Options as TagsOptions, run as tags};
pub(super) use who::{Options as WhoOptions, run as who};

/// Reads what is typed as the server will read it: what is malformed is wrong usage.
fn typed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ExitCode> {
    text.parse().map_err(|err| usage(&format!("{text}: {err}")))
}

/// How long ago a time of an answer was, as in `3h`; `-` without one.
fn ago(value: Option<&Value>) -> String {
    let Some(then) = value.and_then(Value::as_u64) else { return "-".to_owned() };
    let seconds = Clock::default().now().since(Timestamp::from_millis(then)).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A digest as people read it: its first hex digits.
fn short(digest: &str) -> String {
    let end = digest.find(':').map_or(12, |colon| colon + 13);
    digest.get(..end).unwrap_or(digest).to_owned()
}
