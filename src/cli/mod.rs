//! Commands.

mod check_config;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use roadstead::config::{Config, Problem, Problems};

/// Bad configuration (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// A pull-through caching mirror for many container registries at once.
#[derive(Parser)]
#[command(name = "roadstead", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the mirror until SIGTERM or SIGINT.
    Serve {
        /// TOML file; without it, the embedded defaults mirror the well-known public registries.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check a configuration, list every problem, and exit with 64 if there is any.
    CheckConfig {
        /// TOML file; without it, the embedded defaults and the environment are checked.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve::run(config.as_deref()),
        Command::CheckConfig { config } => check_config::run(config.as_deref()),
    }
}

/// Reads and checks the configuration; prints all problems if there are any.
fn read(file: Option<&Path>) -> Result<Config, ExitCode> {
    let name = file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
    let text = match file.map(std::fs::read_to_string).transpose() {
        Ok(text) => Ok(text),
        Err(err) => Err(Problems(vec![Problem { key: "--config".to_owned(), message: err.to_string() }])),
    };
    let environment =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    text.and_then(|text| Config::read(text.as_deref(), environment)).map_err(|problems| {
        say(&format!("roadstead: the configuration in {name} has {} problem(s):\n{problems}", problems.0.len()));
        ExitCode::from(EXIT_CONFIG)
    })
}

/// For the operator at the terminal.
fn say(text: &str) {
    #[expect(clippy::print_stderr, reason = "commands talk to the terminal")]
    {
        eprintln!("{}", text.trim_end());
    }
}
