//! The last warnings of this process, for operators who do not have its log at hand. Those about requests are not among them:
//! each request has a line of its own.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

/// Warnings that are kept.
const MOST: usize = 50;
/// Longest text of one. Bytes.
const MAX_BYTES: usize = 2000;

/// The message of the lines about requests.
const REQUEST: &str = "request";

static LAST: Mutex<VecDeque<Warning>> = Mutex::new(VecDeque::new());

/// Warnings of the same words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// When the last one was written. Milliseconds since the epoch.
    pub at_millis: u64,
    /// The message, and its fields as `key=value`.
    pub text: String,
    pub count: u64,
}

/// The last warnings, the last one first. Empty where the process does not log.
pub fn last_warnings() -> Vec<Warning> {
    last().iter().cloned().collect()
}

fn last() -> MutexGuard<'static, VecDeque<Warning>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps warnings.
pub(super) struct Keeper;

/// What is kept.
pub(super) fn kept() -> Targets {
    Targets::new().with_target("roadstead", LevelFilter::WARN)
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        if words.message == REQUEST {
            return;
        }
        let mut text = words.message + &words.fields;
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        #[expect(clippy::disallowed_methods, reason = "a log tells the system's time, as all its other lines do")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        keep(&mut last(), text, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    }
}

fn keep(last: &mut VecDeque<Warning>, text: String, at_millis: u64) {
    let known = last.iter().position(|known| known.text == text).and_then(|place| last.remove(place));
    let count = known.map_or(0, |known| known.count).saturating_add(1);
    last.push_front(Warning { at_millis, text, count });
    last.truncate(MOST);
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a `String` cannot fail.
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_warnings_are_counted_together_and_the_oldest_go() {
        let mut last = VecDeque::new();
        for nth in 0..20 {
            keep(&mut last, format!("warning {}", nth % 10), nth);
        }
        let first = Warning { at_millis: 19, text: "warning 9".to_owned(), count: 2 };
        assert_eq!((last.len(), last.front()), (10, Some(&first)));
        for nth in 20..200 {
            keep(&mut last, format!("warning {nth}"), nth);
        }
        let texts = [last.front(), last.back()].map(|warning| warning.map(|warning| warning.text.as_str()));
        assert_eq!((last.len(), texts), (MOST, [Some("warning 199"), Some("warning 150")]));
    }
}
