//! HTTP for the harness itself: pushing images, asking whether a daemon is ready.

use std::path::Path;

use super::process;
use super::program;

/// An answer's status and headers, names in lower case.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Asks with `arguments` added to curl's own; `None` when there is no answer at all.
pub(crate) fn ask(folder: &Path, arguments: &[&str]) -> Option<Answer> {
    let mut command = process::command(program::find("curl"));
    command.args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "--output", "/dev/null"]);
    command.args(["--dump-header", "-", "--header", "Expect:"]).args(arguments);
    process::try_run("curl", folder, &mut command).map(|head| parse(&head))
}

/// The body of a good answer; `None` when there is none.
pub(crate) fn body(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = process::command(program::find("curl"));
    command.args(["--silent", "--fail", "--max-time", "30", "--noproxy", "*"]).args(arguments);
    process::try_run("curl", folder, &mut command)
}

fn parse(head: &str) -> Answer {
    // A request with a body may be answered by `100 Continue` first: the last head counts.
    let last = head.trim_end().rsplit("\r\n\r\n").next().expect("there is always a last part");
    let mut lines = last.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("not the head of an answer: {head:?}")),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
    }
}
