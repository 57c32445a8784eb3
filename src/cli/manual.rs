//! Shell completions and manual pages, from the definition of the command line itself.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use super::Arguments;
use super::output::{failed, print};

const NAME: &str = "roadstead";

pub(super) fn completions(shell: clap_complete::Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut text);
    print(&String::from_utf8_lossy(&text));
}

/// `roadstead.1`, `roadstead-serve.1` and so on.
pub(super) fn pages(folder: &Path) -> Result<(), ExitCode> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Arguments::command(), folder));
    written.map_err(|err| failed(&format!("{}: {err}", folder.display())))
}
