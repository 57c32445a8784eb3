//! The command line: arguments, and one file per command.

mod admin_client;
mod backup;
mod check_config;
mod lost;
mod offline_storage;
mod output;
mod pin;
mod restore;
mod serve;
mod status;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use roadstead::cache::scrub::Rate;
use roadstead::config::{Config, Problem, Problems};

use output::{failed, report};

/// Exit status for an invalid configuration (`EX_USAGE` of sysexits.h).
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
    /// Show what is stored and what is not well, running or stopped.
    Status {
        /// TOML file, as of `serve`: it says where the storage and its admin socket are.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep content for ever: list pins, add some, take some back, running or stopped.
    Pin {
        /// TOML file, as of `serve`: it says where the storage and its admin socket are.
        #[arg(long, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: pin::Action,
    },
    /// Read all that is stored again, and put aside what is wrong. A running server does it, and goes on with it if this
    /// command is interrupted. Exits with 1 if anything was wrong.
    Verify {
        /// TOML file, as of `serve`: it says where the storage and its admin socket are.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How fast to read, as in "50MiB/s", or "unlimited"; without it, as `storage.verify_rate` says.
        #[arg(long, value_name = "RATE")]
        rate: Option<Rate>,
        /// As JSON, a line for each state; the last one is the result.
        #[arg(long)]
        json: bool,
    },
    /// Show what was found wrong and cannot be fetched again, running or stopped.
    Lost {
        /// TOML file, as of `serve`: it says where the storage and its admin socket are.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy all facts (tags, grants, lists, pins) into a file, running or stopped. Blobs are not copied.
    Backup {
        /// TOML file, as of `serve`: it says where the storage and its admin socket are.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The file to write; in a directory, one named by the time.
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Put the facts of a backup back into the storage of a stopped server. Newer facts that are there stay.
    Restore {
        /// TOML file, as of `serve`: it says where the storage is.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// A file that `backup` has written.
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
    },
}

pub(crate) fn run() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve { config } => serve::run(config.as_deref()),
        Command::CheckConfig { config } => check_config::run(config.as_deref()),
        Command::Status { config, json } => status::run(config.as_deref(), json),
        Command::Pin { config, action } => pin::run(config.as_deref(), &action),
        Command::Verify { config, rate, json } => verify::run(config.as_deref(), rate, json),
        Command::Lost { config, json } => lost::run(config.as_deref(), json),
        Command::Backup { config, to } => backup::run(config.as_deref(), &to),
        Command::Restore { config, from } => restore::run(config.as_deref(), &from),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

/// Reads and checks the configuration. Prints all problems if there are any.
fn read(file: Option<&Path>) -> Result<Config, ExitCode> {
    let name = file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
    let text = match file.map(std::fs::read_to_string).transpose() {
        Ok(text) => Ok(text),
        Err(err) => Err(Problems(vec![Problem { key: "--config".to_owned(), message: err.to_string() }])),
    };
    let environment =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    text.and_then(|text| Config::read(text.as_deref(), environment)).map_err(|problems| {
        report(&format!("roadstead: the configuration in {name} has {} problem(s):\n{problems}", problems.0.len()));
        ExitCode::from(EXIT_CONFIG)
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, ExitCode>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|err| failed(&format!("cannot start: {err}")))?.block_on(work)
}
