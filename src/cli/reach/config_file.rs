//! Finds and reads the configuration of a command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use roadstead::config::{Config, Overrides, Problem, Problems};

use crate::cli::output::{EXIT_USAGE, report};

/// Where a configuration is, if the command line does not say: the first of these that is there.
const PLACES: [&str; 2] = ["/etc/roadstead/roadstead.toml", "./roadstead.toml"];

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigFile {
    /// TOML file. Without it: /etc/roadstead/roadstead.toml, else ./roadstead.toml, else the embedded defaults, which mirror
    /// the well-known public registries.
    #[arg(short, long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that is read; `None` if there is none.
    pub(in crate::cli) fn path(&self) -> Option<&Path> {
        let there = || PLACES.iter().map(Path::new).find(|place| place.exists());
        self.config.as_deref().or_else(there)
    }

    /// The file for a message.
    pub(in crate::cli) fn name(&self) -> String {
        self.path().map_or_else(
            || format!("the environment (there is neither {} nor {})", PLACES[0], PLACES[1]),
            |file| file.display().to_string(),
        )
    }

    /// Reads and checks the configuration as a server needs it. Prints all problems if there are any.
    pub(in crate::cli) fn read(&self, overrides: &Overrides) -> Result<Config, ExitCode> {
        self.read_as(|text, environment| Config::read_with(text, environment, overrides))
    }

    /// The same for a command, which needs no secrets.
    pub(in crate::cli) fn read_without_secrets(&self) -> Result<Config, ExitCode> {
        self.read_as(Config::read_without_secrets)
    }

    fn read_as(
        &self,
        read: impl FnOnce(Option<&str>, Vec<(String, String)>) -> Result<Config, Problems>,
    ) -> Result<Config, ExitCode> {
        let text = match self.path().map(std::fs::read_to_string).transpose() {
            Ok(text) => Ok(text),
            Err(err) => Err(Problems(vec![Problem { key: "--config".to_owned(), message: err.to_string() }])),
        };
        let environment =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        text.and_then(|text| read(text.as_deref(), environment.collect())).map_err(|problems| {
            let (name, count) = (self.name(), problems.0.len());
            report(&format!("roadstead: the configuration in {name} has {count} problem(s):\n{problems}"));
            ExitCode::from(EXIT_USAGE)
        })
    }
}
