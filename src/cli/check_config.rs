use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(file: Option<&Path>) -> ExitCode {
    match super::read(file) {
        Ok(config) => {
            super::report(&format!("the configuration is good; it serves {}", config.served.join(", ")));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
