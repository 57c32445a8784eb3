use std::process::ExitCode;

use roadstead::config::Overrides;

use super::output::report;
use super::reach::ConfigFile;

pub(super) fn run(file: &ConfigFile) -> Result<(), ExitCode> {
    let config = file.read(&Overrides::default())?;
    for doubt in &config.doubts {
        report(&format!("  {}: {}", doubt.key, doubt.message));
    }
    report(&format!("the configuration in {} is good; it serves {}", file.name(), config.served.join(", ")));
    Ok(())
}
