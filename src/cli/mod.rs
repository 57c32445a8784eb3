//! The command line: arguments, and one file per command.

mod admin_client;
mod backup;
mod check_config;
mod lost;
mod offline_storage;
mod pin;
mod restore;
mod serve;
mod status;
mod verify;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use roadstead::cache::scrub::Rate;
use roadstead::config::{Config, Problem, Problems};
use serde_json::Value;

/// Exit status for an invalid configuration (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// Largest answer of the server that is read, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

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
        Command::Pin { config, action } => pin::run(config.as_deref(), &action),
        Command::Verify { config, rate, json } => verify::run(config.as_deref(), rate, json),
        Command::Lost { config, json } => lost::run(config.as_deref(), json),
        Command::Backup { config, to } => backup::run(config.as_deref(), &to),
        Command::Restore { config, from } => restore::run(config.as_deref(), &from),
    }
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

/// Sends a request to the running server; `None` if none runs. Prints a failure.
fn ask_server(config: &Config, method: &str, path: &str) -> Result<Option<admin_client::Answer>, ExitCode> {
    let Some(socket) = &config.server.admin_socket else { return Ok(None) };
    admin_client::send(socket, method, path).map_err(|err| {
        report(&format!("roadstead: the server cannot be asked at {}: {err}", socket.display()));
        ExitCode::FAILURE
    })
}

/// The JSON answer of the running server; `None` if none runs. Prints a failure, or the server's error.
fn ask_api(config: &Config, method: &str, path: &str) -> Result<Option<Value>, ExitCode> {
    let Some(answer) = ask_server(config, method, path)? else { return Ok(None) };
    let mut text = String::new();
    let read = answer.body.take(LONGEST_ANSWER).read_to_string(&mut text);
    let value: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    match (answer.status, value) {
        (200..=299, Some(value)) => Ok(Some(value)),
        (status, value) => {
            let why = value.as_ref().and_then(|value| value.get("error")).and_then(Value::as_str);
            match why {
                Some(why) => report(&format!("roadstead: {why}")),
                None => report(&format!("roadstead: the server answers {status}: {}", text.trim())),
            }
            Err(ExitCode::FAILURE)
        }
    }
}

/// A member of an answer as text: strings without quotes, a missing member as the empty string.
fn plain(of: &Value, key: &str) -> String {
    match of.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn block_on<T>(work: impl Future<Output = Result<T, ExitCode>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|err| {
        report(&format!("roadstead: cannot start: {err}"));
        ExitCode::FAILURE
    })?;
    runtime.block_on(work)
}

/// Prints a result to standard output.
fn print(text: &str) {
    // A closed pipe is no error: a reader such as `head` has what it needs.
    let _unread = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints a result to standard output as JSON.
fn tell_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints a message for the operator to standard error.
fn report(text: &str) {
    let _unread = writeln!(std::io::stderr(), "{}", text.trim_end());
}
