use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use roadstead::app::App;
use roadstead::clock::Clock;
use roadstead::config::{Config, Overrides};
use roadstead::telemetry;

use super::output::failed;
use super::reach::ConfigFile;

/// Settings for a trial without a file.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where clients connect, in place of `server.listen`. May be given several times.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Where to store, in place of `storage.path`.
    #[arg(long, value_name = "DIRECTORY")]
    storage: Option<String>,
    /// A registry to mirror, beside those of the file. A well-known one needs no URL. May be given several times.
    #[arg(long, value_name = "NAME=URL", value_parser = upstream)]
    upstream: Vec<(String, Option<String>)>,
}

fn upstream(text: &str) -> Result<(String, Option<String>), &'static str> {
    let (name, url) = text.split_once('=').map_or((text, None), |(name, url)| (name, Some(url.to_owned())));
    if name.is_empty() { Err("it begins with the registry's name") } else { Ok((name.to_owned(), url)) }
}

pub(super) fn run(file: &ConfigFile, set: &Options) -> Result<(), ExitCode> {
    let Options { listen, storage, upstream } = set;
    let overrides = Overrides { listen: listen.clone(), storage: storage.clone(), upstreams: upstream.clone() };
    let config = file.read(&overrides)?;
    telemetry::start(config.log.format, config.log.level);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, configuration = file.name(), "starting");
    for doubt in &config.doubts {
        tracing::warn!(key = doubt.key, "the configuration: this {}", doubt.message);
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|err| failed(&format!("cannot start: {err}")))?;
    let served = runtime.block_on(serve(config));
    // A hanging blocking read must not keep the process alive.
    runtime.shutdown_background();
    telemetry::flush();
    served
}

/// What other programs take an egress proxy from.
const PROXY_VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Raises the soft limit on file descriptors to the hard one: connections and open files need many.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::debug!("the limit on file descriptors stays as it is");
    }
}

async fn serve(config: Config) -> Result<(), ExitCode> {
    let settings = &config.server;
    if settings.admin_token_file.is_none() && settings.admin_listen.is_some_and(|address| !address.ip().is_loopback()) {
        tracing::warn!("`admin_listen` is not on loopback and there is no `admin_token_file`: /metrics is refused");
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(name) = PROXY_VARIABLES.into_iter().find(|name| is_set(name)) {
        tracing::warn!(
            "{name} of the environment is not used: an egress proxy is the key `proxy` of the configuration"
        );
    }
    let (served, deadline) = (config.served.join(", "), config.shutdown_deadline);
    let storage = config.storage.path.display().to_string();
    // Before anything is bound, because a signal may come as soon as the server answers.
    let mut signals = Signals::listen().map_err(|err| failed(&format!("cannot wait for signals: {err}")))?;
    let started = tokio::select! {
        started = App::start(config, Clock::default()) => started,
        () = signals.next() => return Ok(()),
    };
    let app = started.map_err(|err| failed(&err.to_string()))?;
    for (scheme, address, mount) in &app.addresses {
        tracing::info!("listening on {scheme}://{address}{mount}");
    }
    if let Some(address) = app.admin_address {
        tracing::info!("health and metrics on http://{address}");
    }
    tracing::info!(storage, "serving {served}");
    signals.next().await;
    tracing::info!("stopping; responses and downloads have {} s to end", deadline.as_secs());
    tokio::select! {
        () = app.stop() => {}
        () = signals.next() => tracing::warn!("stopping at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
