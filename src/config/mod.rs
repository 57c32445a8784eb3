//! The configuration: TOML and environment, read raw, then checked. All problems are reported at once, with their keys.

mod check;
mod completion;
mod cooldown;
mod endpoints;
mod identity;
mod lists;
mod presets;
mod problems;
mod raw;
mod rules;
mod section;
mod server;
mod storage;
mod upstreams;

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::cache::retention::EvictionSettings;
use crate::cache::scrub::VerifySettings;
use crate::fill::FillLimits;
use crate::jobs::look::CoverageList;
use crate::jobs::warm::schedule::WarmSchedule;
use crate::mirror::{CompletionTimes, Namespaces, RegistrySettings};
use crate::server::ServerSettings;
use crate::store::SpaceLimits;
use crate::telemetry;

pub use problems::{Problem, Problems};

/// The checked configuration.
pub struct Config {
    pub server: ServerSettings,
    pub storage: StorageSettings,
    /// `server.max_fills` and `server.max_waiting_fills`.
    pub fills: FillLimits,
    /// When the background completes images. Has no key.
    pub completion: CompletionTimes,
    /// `[[coverage]]`.
    pub coverage: Vec<CoverageList>,
    /// `[[warm]]`.
    pub warm: Vec<WarmSchedule>,
    /// `server.log_format` and `server.log_level`.
    pub log: LogSettings,
    /// Time for responses and fills to end after SIGTERM.
    pub shutdown_deadline: Duration,
    /// All names by which upstreams are reached.
    pub namespaces: Namespaces,
    pub upstreams: Vec<RegistrySettings>,
    /// Names of all upstreams, sorted.
    pub served: Vec<String>,
    /// What is allowed, and hardly meant.
    pub doubts: Vec<Problem>,
}

/// What the command line sets. It stands above environment and file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `server.listen`; empty leaves it.
    pub listen: Vec<String>,
    /// `storage.path`.
    pub storage: Option<String>,
    /// Upstreams by name, each with its `url`; a well-known registry needs none.
    pub upstreams: Vec<(String, Option<String>)>,
}

/// `[storage]`.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    pub path: PathBuf,
    pub limits: SpaceLimits,
    pub eviction: EvictionSettings,
    pub verify: VerifySettings,
}

/// The format and the lowest level of log lines.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    pub format: telemetry::Format,
    pub level: LevelFilter,
}

impl Config {
    /// Reads `text` as TOML (`None`: the embedded defaults), overridden by `ROADSTEAD__SECTION__KEY` of `environment`. The
    /// error lists all problems.
    pub fn read(text: Option<&str>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        Self::read_with(text, environment, &Overrides::default())
    }

    /// The same, with what the command line sets.
    pub fn read_with(
        text: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, Problems> {
        let (values, found) = raw::read(text, environment, overrides, true)?;
        check::check(&values, found)
    }

    /// For commands, which ask no upstream and serve nobody: files of secrets, certificates and keys are left alone.
    pub fn read_without_secrets(
        text: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let (values, found) = raw::read(text, environment, &Overrides::default(), false)?;
        check::check(&values, found)
    }
}
