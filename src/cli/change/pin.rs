use std::process::ExitCode;

use clap::Subcommand;
use roadstead::jobs::{add_pins, list_pins, remove_pins};
use roadstead::oci::PinPattern;
use serde_json::json;

use crate::cli::output::{flag, list, plain, print, print_json, usage};
use crate::cli::reach::{Reach, Request, query};

#[derive(Subcommand)]
pub(in crate::cli) enum Action {
    /// Show all pins: those of the configuration, and those made by command.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Never evict what these name, with all that their manifests list.
    Add {
        /// Globs over registry/repository or registry/repository:tag, as in "docker.io/library/**". A tag with a digest, as in
        /// "docker.io/library/app:1@sha256:…", is also answered with that digest, whatever its registry says.
        #[arg(value_name = "GLOB|REF@DIGEST", required = true)]
        patterns: Vec<String>,
    },
    /// Take back pins that were made by command.
    Rm {
        /// Patterns as `ls` shows them.
        #[arg(value_name = "PATTERN", required = true)]
        patterns: Vec<String>,
    },
}

pub(in crate::cli) fn run(reach: &Reach, action: &Action) -> Result<(), ExitCode> {
    let (method, patterns, as_json) = match action {
        Action::Ls { json } => ("GET", &[][..], *json),
        Action::Add { patterns } => ("POST", patterns.as_slice(), false),
        Action::Rm { patterns } => ("DELETE", patterns.as_slice(), false),
    };
    if let Action::Add { patterns } = action {
        // The mirror would refuse it as well. What is mistyped is told as that.
        for pattern in patterns.iter().filter(|pattern| !pattern.contains('@')) {
            pattern.parse::<PinPattern>().map_err(|err| usage(&format!("{pattern}: {err}")))?;
        }
    }
    let path = query("/api/v1/pins", patterns.iter().map(|pattern| ("pin", pattern)));
    let pins = reach.answer(Request { method, path: &path, body: None }, async |mirror| {
        let pins = match action {
            Action::Ls { .. } => list_pins(mirror).await,
            Action::Add { patterns } => add_pins(mirror, patterns).await,
            Action::Rm { patterns } => remove_pins(mirror, patterns).await,
        };
        Ok(json!({ "pins": pins? }))
    })?;
    if as_json {
        print_json(&pins);
        return Ok(());
    }
    for pin in list(&pins, "pins") {
        let by = if flag(pin, "configured") { " (of the configuration)" } else { "" };
        let digest = pin.get("digest").and_then(serde_json::Value::as_str);
        let digest = digest.map_or_else(String::new, |digest| format!("@{digest}"));
        print(&format!("{}{digest}{by}", plain(pin, "pattern")));
    }
    Ok(())
}
