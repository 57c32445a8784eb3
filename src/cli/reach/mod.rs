//! How commands reach a mirror: over the network if they are told where, else over the socket of the one that runs, else in
//! its storage.

pub(super) mod as_owner;
mod config_file;
mod connection;
pub(super) mod offline_storage;
pub(super) mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use roadstead::config::Config;
use roadstead::jobs::Refused;
use roadstead::mirror::Mirror;
use serde_json::Value;

use super::output::{failed, usage};
pub(super) use config_file::ConfigFile;
use server::Server;

/// Where the mirror is that a command is about.
#[derive(Debug, Args)]
pub(super) struct Reach {
    #[command(flatten)]
    file: ConfigFile,
    /// A running server elsewhere, as in "https://mirror.corp:5001": where its `admin_listen`, or a proxy in front of it,
    /// answers.
    #[arg(long, value_name = "URL", global = true, conflicts_with = "config")]
    server: Option<String>,
    /// What is in the server's `admin_token_file`.
    #[arg(long, value_name = "FILE", global = true, requires = "server")]
    token_file: Option<PathBuf>,
}

/// A mirror that a command has found.
pub(super) enum Site {
    Running(Server),
    /// Its storage can be opened.
    Stopped(Box<Config>),
}

/// A request to a running server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    /// From `/api/` on, with the query.
    pub(super) path: &'a str,
    pub(super) body: Option<&'a Value>,
}

impl Reach {
    /// The configuration's file, for commands that need the machine itself.
    pub(super) const fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// The server that the command line names, if it does. Prints a failure.
    pub(super) fn elsewhere(&self) -> Result<Option<Server>, ExitCode> {
        let at = |url: &String| Server::at(url, self.token_file.as_deref()).map_err(|why| usage(&why));
        self.server.as_ref().map(at).transpose()
    }

    /// Finds the mirror. Prints a failure.
    pub(super) fn find(&self) -> Result<Site, ExitCode> {
        if let Some(server) = self.elsewhere()? {
            return Ok(Site::Running(server));
        }
        let config = self.file.read_without_secrets()?;
        if let Some(socket) = &config.server.admin_socket {
            match Server::behind(socket) {
                Ok(Some(server)) => return Ok(Site::Running(server)),
                Ok(None) => {}
                Err(err) => return Err(failed(&format!("the server cannot be asked at {}: {err}", socket.display()))),
            }
        }
        Ok(Site::Stopped(Box::new(config)))
    }

    /// The JSON answer of the running server, or what `offline` makes of its storage. Prints a failure.
    pub(super) fn answer(
        &self,
        request: Request<'_>,
        offline: impl AsyncFnOnce(&Arc<Mirror>) -> Result<Value, Refused>,
    ) -> Result<Value, ExitCode> {
        match self.find()? {
            Site::Running(server) => server.json(request),
            Site::Stopped(config) => {
                offline_storage::with_mirror(*config, offline)?.map_err(|refused| failed(&refused.to_string()))
            }
        }
    }
}

impl<'a> Request<'a> {
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: "GET", path, body: None }
    }

    pub(super) const fn post(path: &'a str) -> Self {
        Self { method: "POST", path, body: None }
    }

    pub(super) const fn with(self, body: &'a Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// A path with its query, as in `query("/api/v1/pins", [("pin", "docker.io/**")])`.
pub(super) fn query<K: AsRef<str>, V: AsRef<str>>(path: &str, pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
