//! The command line: arguments, and one file per command.

mod carry;
mod change;
mod check_config;
mod client_config;
mod doctor;
mod healthcheck;
mod look;
mod manual;
mod output;
mod reach;
mod serve;
mod status;
mod storage;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use roadstead::cache::scrub::Rate;

use output::{EXIT_USAGE, failed};
use reach::{ConfigFile, Reach};
use storage::{backup, lost, restore, verify};

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
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        set: serve::Options,
    },
    /// Check a configuration, list every problem, and exit with 64 if there is any.
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Say which rule of `[access]` decides whether somebody may read something, and why. Exits with 1 if it is refused.
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        question: look::Question,
    },
    /// Print the files that send a client's pulls through a mirror, or lay them out on its machine, or undo that.
    ClientConfig {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        options: client_config::Options,
    },
    /// Show what is stored, what is not well, and which upstreams are in trouble, running or stopped.
    Status {
        #[command(flatten)]
        reach: Reach,
        /// As JSON, with sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running server whether it is ready, for a container's health check. Exits with 1 if it is not.
    Healthcheck {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Look for what is not well, or soon will not be: configuration, server, disk and registries, or, from a client's machine,
    /// the way to the mirror. Exits with 1 if anything does not work.
    Doctor {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: doctor::Options,
    },
    /// Keep content for ever: list pins, add some, take some back, running or stopped.
    Pin {
        #[command(flatten)]
        reach: Reach,
        #[command(subcommand)]
        action: change::PinAction,
    },
    /// Give nobody some content any more: list blocks, add some, take some back, running or stopped.
    Block {
        #[command(flatten)]
        reach: Reach,
        #[command(subcommand)]
        action: change::BlockAction,
    },
    /// Read all that is stored again, look for all that is recorded, and put aside what is wrong. A running server does it,
    /// and goes on with it if this command is interrupted. Exits with 1 if anything was wrong or missing.
    Verify {
        #[command(flatten)]
        reach: Reach,
        /// How fast to read, as in "50MiB/s", or "unlimited"; without it, as `storage.verify_rate` says.
        #[arg(long, value_name = "RATE")]
        rate: Option<Rate>,
        /// As JSON, a line for each state; the last one is the result.
        #[arg(long)]
        json: bool,
    },
    /// Show what was found wrong or missing and cannot be fetched again, running or stopped.
    Lost {
        #[command(flatten)]
        reach: Reach,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the repositories that are held, with their tags, manifests and bytes, running or stopped.
    Ls {
        #[command(flatten)]
        reach: Reach,
        /// Only these, as in "docker.io/library/*" or "quay.io".
        #[arg(value_name = "GLOB")]
        glob: Option<String>,
        /// name, size, own, used, tags or manifests.
        #[arg(long, value_name = "ORDER", default_value = "name")]
        sort: String,
        /// No more than so many.
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// As JSON, with sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// List the tags of a repository that are held: where they point, for which platforms, whether they are whole.
    Tags {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: look::TagsOptions,
    },
    /// Show a manifest with its platforms, layers and referrers, and which of them are held.
    Inspect {
        #[command(flatten)]
        reach: Reach,
        /// An image, or a digest, which may be shortened.
        #[arg(value_name = "REF")]
        reference: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List who pulled an image, a repository or a digest, by which tag, and when, as far as `[who]` has it recorded.
    Who {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: look::WhoOptions,
    },
    /// Show how many bytes registries and repositories take, their own and shared ones.
    Du {
        #[command(flatten)]
        reach: Reach,
        /// Only these repositories.
        #[arg(value_name = "GLOB")]
        glob: Option<String>,
        /// As JSON, with sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Say which images of a list could be pulled if no upstream answered. Exits with 1 if any could not.
    Coverage {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: look::CoverageOptions,
    },
    /// Check tags with their registries now. Only manifests are fetched.
    Refresh {
        #[command(flatten)]
        reach: Reach,
        /// As in "docker.io/library/*" or "quay.io/org/app:v1*".
        #[arg(value_name = "GLOB", required = true)]
        globs: Vec<String>,
        /// Take what they point to now, even if `min_age` would hold it back.
        #[arg(long)]
        now: bool,
        /// As JSON, a line for each tag; the last one is the result.
        #[arg(long)]
        json: bool,
    },
    /// Make a tag another name of a tag elsewhere. `rm` takes it back.
    Alias {
        #[command(flatten)]
        reach: Reach,
        /// The new name, as in "docker.io/library/app:stable".
        #[arg(value_name = "REF")]
        alias: String,
        /// What it stands for, as in "registry.corp/team/app:1.2".
        #[arg(value_name = "REF")]
        target: String,
    },
    /// Remove tags, manifests with what only they need, repositories, or blobs. What a pin keeps stays.
    Rm {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: change::RemoveOptions,
    },
    /// Evict now, to a size or by age. Pins, last copies and what is being used stay.
    Gc {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: change::GcOptions,
        /// As JSON, with sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Pull images before somebody asks for them. A running server does it, and goes on with it if this command is interrupted,
    /// or the server is. Exits with 1 if one of them was not pulled whole.
    Warm {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: carry::warm::Options,
    },
    /// Write what is held into a bundle: one OCI image layout, in a directory, a tar, or several.
    Export {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: carry::export::Options,
    },
    /// Take images out of bundles and archives, without any registry. Exits with 1 if one of them is not whole.
    Import {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: carry::import::Options,
    },
    /// Write a receipt of all that is held, for `export --since` at another site.
    Inventory {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        options: carry::inventory::Options,
    },
    /// Copy all facts (tags, grants, lists, pins) into a file, running or stopped. Blobs are not copied.
    Backup {
        #[command(flatten)]
        reach: Reach,
        /// The file to write; in a directory, one named by the time; "-" for standard output.
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Put the facts of a backup back into the storage of a stopped server. Newer facts that are there stay.
    Restore {
        #[command(flatten)]
        config: ConfigFile,
        /// A file that `backup` has written; "-" for a file on standard input.
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
    },
    /// Print what completes this command line in a shell.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command, into a directory.
    Man {
        /// Where `roadstead.1` and the others go.
        #[arg(value_name = "DIRECTORY")]
        to: PathBuf,
    },
}

pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            let is_failure = told.use_stderr();
            let _unread = told.print();
            return ExitCode::from(if is_failure { EXIT_USAGE } else { 0 });
        }
    };
    let done = match arguments.command {
        Command::Serve { config, set } => serve::run(&config, &set),
        Command::CheckConfig { config } => check_config::run(&config),
        Command::ClientConfig { config, options } => client_config::run(&config, &options),
        Command::Explain { config, question } => look::explain(&config, &question),
        Command::Status { reach, json } => status::run(&reach, json),
        Command::Healthcheck { config } => healthcheck::run(&config),
        Command::Doctor { reach, options } => doctor::run(&reach, &options),
        Command::Pin { reach, action } => change::pin(&reach, &action),
        Command::Block { reach, action } => change::block(&reach, &action),
        Command::Verify { reach, rate, json } => verify::run(&reach, rate, json),
        Command::Lost { reach, json } => lost::run(&reach, json),
        Command::Ls { reach, glob, sort, limit, json } => look::ls(&reach, glob.as_deref(), &sort, limit, json),
        Command::Tags { reach, options } => look::tags(&reach, &options),
        Command::Inspect { reach, reference, json } => look::inspect(&reach, &reference, json),
        Command::Who { reach, options } => look::who(&reach, &options),
        Command::Du { reach, glob, json } => look::du(&reach, glob.as_deref(), json),
        Command::Coverage { reach, options } => look::coverage(&reach, &options),
        Command::Refresh { reach, globs, now, json } => change::refresh(&reach, &globs, now, json),
        Command::Alias { reach, alias, target } => change::alias(&reach, &alias, &target),
        Command::Rm { reach, options } => change::remove(&reach, &options),
        Command::Gc { reach, options, json } => change::gc(&reach, &options, json),
        Command::Warm { reach, options } => carry::warm::run(&reach, &options),
        Command::Export { reach, options } => carry::export::run(&reach, &options),
        Command::Import { reach, options } => carry::import::run(&reach, &options),
        Command::Inventory { reach, options } => carry::inventory::run(&reach, &options),
        Command::Backup { reach, to } => backup::run(&reach, &to),
        Command::Restore { config, from } => restore::run(&config, &from),
        Command::Completions { shell } => {
            manual::completions(shell);
            Ok(())
        }
        Command::Man { to } => manual::pages(&to),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

fn block_on<T>(work: impl Future<Output = Result<T, ExitCode>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|err| failed(&format!("cannot start: {err}")))?.block_on(work)
}
