//! Logs on standard error, as text or as JSON lines. A separate thread writes them ([`writer`]).

mod warnings;
mod writer;

use std::ffi::OsString;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

pub use warnings::{Warning, last_warnings};
use writer::{LogWriter, Pace};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Longest wait for standard error at the end. It may be a pipe that nobody reads.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static WRITER: OnceLock<LogWriter> = OnceLock::new();
static PLAIN: OnceLock<Plain> = OnceLock::new();

/// A direct way to the log for lines that the caller formats, for speed.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    pub format: Format,
    level: LevelFilter,
}

/// Starts logging for the process. A second call changes nothing.
pub fn start(format: Format, level: LevelFilter) {
    let Some(writer) = begin() else { return };
    // Libraries' lines below a warning are not for operators.
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("roadstead", level);
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    let has_colours = has_colours(is_terminal, |name| std::env::var_os(name));
    let layer = fmt::layer().with_writer(|| EventWriter(writer)).with_ansi(has_colours).with_target(false);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let started = tracing_subscriber::registry();
    let started =
        started.with(layer.with_filter(targets)).with(warnings::Keeper.with_filter(warnings::kept())).try_init();
    // What has colours needs no speed.
    if started.is_ok() && !(has_colours && format == Format::Text) {
        let _first = PLAIN.set(Plain { format, level });
    }
}

/// Terminals get colours, unless `NO_COLOR` is set to something (<https://no-color.org>), or the terminal has none.
fn has_colours(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    is_terminal
        && variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

fn begin() -> Option<&'static LogWriter> {
    WRITER.set(LogWriter::start(io::stderr()).ok()?).ok()?;
    WRITER.get()
}

/// The direct way to the log; `None` if `tracing` must format all lines.
pub fn plain() -> Option<&'static Plain> {
    PLAIN.get()
}

impl Plain {
    /// Whether lines of this level are logged.
    pub fn takes(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Adds the line that `format` appends, with its line end. While standard error takes nothing and the buffer is full,
    /// the line is dropped and counted.
    pub fn write(&self, level: Level, format: impl FnOnce(&mut Vec<u8>)) {
        if let Some(writer) = WRITER.get() {
            writer.append(if level < Level::INFO { Pace::AtOnce } else { Pace::Gathered }, format);
        }
    }
}

/// Lines dropped since the start.
pub fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LogWriter::dropped)
}

/// Waits until all lines are written, at most for a second. Blocks; for the end of the process.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(FLUSH_TIMEOUT);
    }
}

/// The writer for the lines of `tracing`, which are few.
struct EventWriter(&'static LogWriter);

impl io::Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(Pace::AtOnce, |out| out.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_wants_colours_gets_them() {
        let with = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.into());
        assert!(has_colours(true, |_| None) && has_colours(true, with("NO_COLOR", "")));
        assert!(has_colours(true, with("TERM", "xterm")));
        assert!(!has_colours(false, |_| None));
        assert!(!has_colours(true, with("NO_COLOR", "1")) && !has_colours(true, with("TERM", "dumb")));
    }
}
