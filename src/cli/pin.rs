use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use roadstead::config::Config;
use roadstead::jobs::{PinRefused, add_pins, list_pins, remove_pins};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Show all pins: those of the configuration, and those made by command.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Never evict what these name, with all that their manifests list.
    Add {
        /// Globs over registry/repository or registry/repository:tag, as in "docker.io/library/**".
        #[arg(value_name = "PATTERN", required = true)]
        patterns: Vec<String>,
    },
    /// Take back pins that were made by command.
    Rm {
        /// As `ls` shows them.
        #[arg(value_name = "PATTERN", required = true)]
        patterns: Vec<String>,
    },
}

pub(super) fn run(file: Option<&Path>, action: &Action) -> ExitCode {
    let (done, as_json) = match action {
        Action::Ls { json } => (at(file, action, "GET", &[]), *json),
        Action::Add { patterns } => (at(file, action, "POST", patterns), false),
        Action::Rm { patterns } => (at(file, action, "DELETE", patterns), false),
    };
    match done {
        Ok(pins) if as_json => super::tell_json(&pins),
        Ok(pins) => {
            for pin in super::list(&pins, "pins") {
                let is_configured = pin.get("configured").and_then(Value::as_bool).unwrap_or_default();
                let by = if is_configured { " (of the configuration)" } else { "" };
                super::print(&format!("{}{by}", super::plain(pin, "pattern")));
            }
        }
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// All pins after the action. Prints a failure.
fn at(file: Option<&Path>, action: &Action, method: &str, patterns: &[String]) -> Result<Value, ExitCode> {
    let config = super::read(file)?;
    let pairs = patterns.iter().map(|pattern| ("pin", pattern));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    match super::ask_api(&config, method, &format!("/api/v1/pins?{query}"))? {
        Some(pins) => Ok(pins),
        None => of_stopped(config, action, patterns),
    }
}

fn of_stopped(config: Config, action: &Action, patterns: &[String]) -> Result<Value, ExitCode> {
    super::block_on(async {
        let offline = super::offline_storage::still(config).await?;
        let mirror = offline.mirror();
        let done = match action {
            Action::Ls { .. } => list_pins(mirror).await.map_err(PinRefused::Index),
            Action::Add { .. } => add_pins(mirror, patterns).await,
            Action::Rm { .. } => remove_pins(mirror, patterns).await,
        };
        offline.close().await;
        done.map(|pins| json!({ "pins": pins })).map_err(|err| {
            super::report(&format!("roadstead: {err}"));
            ExitCode::FAILURE
        })
    })
}
