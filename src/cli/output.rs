//! Output of commands: results on standard output, messages on standard error, and members of JSON answers.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

/// Prints a result. A reader that stops early, as `head` does, is no failure.
pub(super) fn print(text: &str) {
    let _unread = writeln!(std::io::stdout(), "{}", text.trim_end());
}

pub(super) fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes a message for the operator to standard error.
pub(super) fn report(text: &str) {
    let _unread = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// Reports why the command failed, and gives its exit code.
pub(super) fn failed(why: &str) -> ExitCode {
    report(&format!("roadstead: {why}"));
    ExitCode::FAILURE
}

/// Exit status for wrong usage or an invalid configuration (`EX_USAGE` of sysexits.h).
pub(super) const EXIT_USAGE: u8 = 64;

/// Reports what is wrong with what the command was given, and gives its exit code.
pub(super) fn usage(why: &str) -> ExitCode {
    report(&format!("roadstead: {why}"));
    ExitCode::from(EXIT_USAGE)
}

/// A member of an answer as text; empty if it is missing.
pub(super) fn plain(of: &Value, key: &str) -> String {
    match of.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

/// A member of an answer as a number; 0 if it is missing.
pub(super) fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// A member of an answer as a flag; false if it is missing.
pub(super) fn flag(of: &Value, key: &str) -> bool {
    of.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A member of an answer as a list; empty if it is missing.
pub(super) fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A size for people, as in `1.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}
