use std::process::ExitCode;
use std::time::Duration;

use super::output::{failed, print};
use super::reach::ConfigFile;
use super::reach::server;

/// Container runtimes wait for 30 s by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `/readyz` of the running server, over its socket, else at its admin address.
pub(super) fn run(file: &ConfigFile) -> Result<(), ExitCode> {
    let config = file.read_without_secrets()?;
    let answer = server::ask_anywhere(&config.server, "/readyz", PATIENCE)?;
    let (status, text) = (answer.status, answer.text());
    if status == 200 {
        print(&text);
        return Ok(());
    }
    Err(failed(&format!("the server answers {status}: {}", text.trim())))
}
