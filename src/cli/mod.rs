//! Commands.

mod ask;
mod backup;
mod check_config;
mod restore;
mod serve;
mod status;
mod stopped;

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
    /// Show what is stored and what is not well, running or stopped.
    Status {
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
    /// Put the facts of a backup back into the storage of a stopped server. What is known there and newer stays.
    Restore {
        /// TOML file, as of `serve`: it says where the storage is.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// What `backup` has written.
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
    },
}

pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve::run(config.as_deref()),
        Command::CheckConfig { config } => check_config::run(config.as_deref()),
        Command::Status { config, json } => status::run(config.as_deref(), json),
        Command::Backup { config, to } => backup::run(config.as_deref(), &to),
        Command::Restore { config, from } => restore::run(config.as_deref(), &from),
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

/// What the running server answers; `None` if none runs.
fn ask_server(config: &Config, path: &str) -> Result<Option<ask::Answer>, ExitCode> {
    let Some(socket) = &config.server.admin_socket else { return Ok(None) };
    ask::get(socket, path).map_err(|err| {
        say(&format!("roadstead: the server cannot be asked at {}: {err}", socket.display()));
        ExitCode::FAILURE
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, ExitCode>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|err| {
        say(&format!("roadstead: cannot start: {err}"));
        ExitCode::FAILURE
    })?;
    runtime.block_on(work)
}

/// What was asked for, for people and programs.
fn tell(text: &str) {
    #[expect(clippy::print_stdout, reason = "commands talk to the terminal")]
    {
        println!("{}", text.trim_end());
    }
}

/// For the operator at the terminal.
fn say(text: &str) {
    #[expect(clippy::print_stderr, reason = "commands talk to the terminal")]
    {
        eprintln!("{}", text.trim_end());
    }
}
