//! Logs, on standard error: for people, or as JSON lines.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts logging for the process. A second call changes nothing.
pub fn start(format: Format, level: LevelFilter) {
    // What libraries say below a warning is not for operators.
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("roadstead", level);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal).with_target(false);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let _already_started = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
}
