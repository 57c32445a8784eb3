use std::path::Path;
use std::process::ExitCode;

use super::output::report;

pub(super) fn run(file: Option<&Path>) -> Result<(), ExitCode> {
    let config = super::read(file)?;
    report(&format!("the configuration is good; it serves {}", config.served.join(", ")));
    Ok(())
}
