//! Shows a job until it ends: bars at a terminal, lines elsewhere, JSON for programs.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roadstead::jobs::JobRunner;
use serde_json::{Value, json};

use crate::cli::output::{failed, flag, list, number, plain, print, report, size};
use crate::cli::reach::Request;
use crate::cli::reach::server::Server;

/// Time between two looks: at a terminal, at first, and elsewhere.
const AT_TERMINAL: Duration = Duration::from_millis(200);
const AT_FIRST: Duration = Duration::from_millis(20);
const ELSEWHERE: Duration = Duration::from_millis(500);
/// Between two lines of progress where there is no terminal.
const LINES: Duration = Duration::from_secs(10);
/// Looks at the short interval.
const FIRST_LOOKS: u32 = 20;

/// Where a job runs.
pub(in crate::cli) enum Engine<'a> {
    Server(&'a Server),
    /// In this process, on a storage whose server is stopped.
    Here(&'a Arc<JobRunner>),
}

impl Engine<'_> {
    /// The job, and its results behind the first `skip`.
    fn look(&self, id: &str, skip: usize) -> Result<Value, ExitCode> {
        match self {
            Self::Server(server) => server.json(Request::get(&format!("/api/v1/jobs/{id}?skip={skip}"))),
            Self::Here(runner) => {
                let job = runner.jobs().get(id).ok_or_else(|| failed("the job is gone"))?;
                // In this order: a job that has ended has all its results.
                let report = job.report();
                Ok(json!({ "job": report, "items": job.items(skip, 1000) }))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Lines,
    /// A bar that moves.
    Terminal,
}

/// How the results of one command are shown, over all its jobs.
pub(in crate::cli) struct Shown {
    style: Style,
    items: u64,
    failed: u64,
    /// Items that wait for another part, until one brings it.
    waiting: BTreeMap<String, Value>,
    last_line: Option<Instant>,
    has_bar: bool,
    /// Results go to standard error, because the output goes to standard output.
    is_output_taken: bool,
}

impl Shown {
    pub(in crate::cli) fn new(as_json: bool, is_output_taken: bool) -> Self {
        let style = match std::io::stderr().is_terminal() {
            _ if as_json => Style::Json,
            true => Style::Terminal,
            false => Style::Lines,
        };
        Self { style, items: 0, failed: 0, waiting: BTreeMap::new(), last_line: None, has_bar: false, is_output_taken }
    }

    /// Follows a job until `is_ready` or its end, and gives its last state.
    pub(in crate::cli) async fn follow(
        &mut self,
        engine: &Engine<'_>,
        id: &str,
        is_ready: impl Fn(&Value) -> bool,
    ) -> Result<Value, ExitCode> {
        let (mut seen, mut looks) = (0, 0);
        loop {
            let mut looked = engine.look(id, seen)?;
            let job = looked.get_mut("job").map(Value::take).unwrap_or_default();
            let items = list(&looked, "items");
            seen += items.len();
            for item in items {
                self.item(item);
            }
            let is_over = plain(&job, "state") != "running" || is_ready(&job);
            if is_over && items.is_empty() {
                self.end_bar();
                return Ok(job);
            }
            if items.is_empty() {
                self.progress(&job);
                let pause = if looks < FIRST_LOOKS {
                    AT_FIRST
                } else if self.style == Style::Terminal {
                    AT_TERMINAL
                } else {
                    ELSEWHERE
                };
                looks += 1;
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn item(&mut self, item: &Value) {
        let name = plain(item, "item");
        if flag(item, "waiting") {
            self.waiting.insert(name, item.clone());
            return;
        }
        self.waiting.remove(&name);
        self.tell(item);
    }

    fn tell(&mut self, item: &Value) {
        self.items += 1;
        let outcome = plain(item, "outcome");
        self.failed += u64::from(!matches!(outcome.as_str(), "done" | "held") && !flag(item, "waiting"));
        self.end_bar();
        if self.style == Style::Json {
            return self.print(&item.to_string());
        }
        let problem = item.get("problem").and_then(Value::as_str).map(|why| format!(": {why}")).unwrap_or_default();
        let bytes = number(item, "bytes");
        let bytes = if bytes > 0 { format!(" ({})", size(bytes)) } else { String::new() };
        self.print(&format!("{outcome:8} {}{bytes}{problem}", plain(item, "item")));
    }

    pub(in crate::cli) fn print(&self, text: &str) {
        if self.is_output_taken { report(text) } else { print(text) }
    }

    /// A message beside the results.
    pub(in crate::cli) fn remark(&mut self, text: &str) {
        self.end_bar();
        if self.style != Style::Json {
            report(text);
        }
    }

    /// Progress of a transfer that this command itself makes.
    pub(in crate::cli) fn transfer(&mut self, what: &str, bytes: u64, total: u64) {
        self.show(what, bytes, total);
    }

    fn progress(&mut self, job: &Value) {
        let note = plain(job, "note");
        let counted = match number(job, "items_total") {
            0 => String::new(),
            total => format!(" {} of {total}", number(job, "items")),
        };
        let what = format!(
            "{}{counted}{}",
            plain(job, "kind"),
            if note == "null" { String::new() } else { format!(": {note}") }
        );
        self.show(&what, number(job, "bytes"), number(job, "bytes_total"));
    }

    fn show(&mut self, what: &str, bytes: u64, total: u64) {
        let is_late = self
            .last_line
            .is_none_or(|last| last.elapsed() >= if self.style == Style::Terminal { AT_TERMINAL } else { LINES });
        if self.style == Style::Json || !is_late {
            return;
        }
        let is_first = self.last_line.replace(Instant::now()).is_none();
        let amount = if total > 0 { format!("{} of {}", size(bytes), size(total)) } else { size(bytes) };
        if self.style != Style::Terminal {
            // A command that ends soon says nothing of its progress.
            if !is_first {
                report(&format!("{what}, {amount}"));
            }
            return;
        }
        let width = terminal_width();
        let filled = bytes.saturating_mul(20).checked_div(total).unwrap_or(0).min(20);
        let bar = if total > 0 {
            format!("[{:20}] ", "#".repeat(usize::try_from(filled).unwrap_or_default()))
        } else {
            String::new()
        };
        let text: String = format!("{bar}{amount}  {what}").chars().take(width.saturating_sub(1)).collect();
        self.has_bar = true;
        let mut out = std::io::stderr().lock();
        // A failed write to the terminal is ignored.
        let _unseen = write!(out, "\r{text}\u{1b}[K").and_then(|()| out.flush());
    }

    fn end_bar(&mut self) {
        if std::mem::take(&mut self.has_bar) {
            let mut out = std::io::stderr().lock();
            let _unseen = write!(out, "\r\u{1b}[K").and_then(|()| out.flush());
        }
    }

    /// The last line, and the exit code. `is_all`: what still waits for other parts has failed.
    pub(in crate::cli) fn end(mut self, problem: Option<&str>, is_all: bool) -> Result<(), ExitCode> {
        let waiting = std::mem::take(&mut self.waiting);
        let count = waiting.len();
        for item in waiting.into_values() {
            self.tell(&item);
            self.failed += u64::from(is_all);
        }
        self.end_bar();
        if let Some(problem) = problem {
            report(&format!("roadstead: {problem}"));
        }
        if self.style == Style::Json {
            let mut last = json!({ "done": true, "items": self.items, "failed": self.failed });
            if let Some(last) = last.as_object_mut() {
                if count > 0 {
                    last.insert("waiting".to_owned(), json!(count));
                }
                if let Some(problem) = problem {
                    last.insert("problem".to_owned(), json!(problem));
                }
            }
            self.print(&last.to_string());
        }
        if self.failed == 0 && problem.is_none() { Ok(()) } else { Err(ExitCode::FAILURE) }
    }
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20)
}
