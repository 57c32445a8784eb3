use std::process::ExitCode;

use clap::Subcommand;
use roadstead::config::Config;
use roadstead::jobs::{PinRefused, add_pins, list_pins, remove_pins};
use serde_json::{Value, json};

use super::output::{failed, flag, list, plain, print, print_json};
use super::reach::ConfigFile;
use super::reach::{offline_storage, server};

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
        /// Patterns as `ls` shows them.
        #[arg(value_name = "PATTERN", required = true)]
        patterns: Vec<String>,
    },
}

pub(super) fn run(file: &ConfigFile, action: &Action) -> Result<(), ExitCode> {
    let (method, patterns, as_json) = match action {
        Action::Ls { json } => ("GET", &[][..], *json),
        Action::Add { patterns } => ("POST", patterns.as_slice(), false),
        Action::Rm { patterns } => ("DELETE", patterns.as_slice(), false),
    };
    let config = file.read_without_secrets()?;
    let pairs = patterns.iter().map(|pattern| ("pin", pattern));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let pins = match server::ask_api(&config, method, &format!("/api/v1/pins?{query}"))? {
        Some(pins) => pins,
        None => offline(config, action)?,
    };
    if as_json {
        print_json(&pins);
        return Ok(());
    }
    for pin in list(&pins, "pins") {
        let by = if flag(pin, "configured") { " (of the configuration)" } else { "" };
        print(&format!("{}{by}", plain(pin, "pattern")));
    }
    Ok(())
}

fn offline(config: Config, action: &Action) -> Result<Value, ExitCode> {
    let done = offline_storage::with_mirror(config, async |mirror| match action {
        Action::Ls { .. } => list_pins(mirror).await.map_err(PinRefused::Index),
        Action::Add { patterns } => add_pins(mirror, patterns).await,
        Action::Rm { patterns } => remove_pins(mirror, patterns).await,
    })?;
    done.map(|pins| json!({ "pins": pins })).map_err(|err| failed(&err.to_string()))
}
