//! The real application, in this process, from a real configuration, with a clock that a test may move.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roadstead::app::{App, StartError};
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::mirror::CompletionTimes;
use roadstead::store::OpenError;
use tempfile::TempDir;

use super::client::Client;
use super::eventually;
use super::upstream::PATIENCE;

/// A mirror's configuration in the making: TOML behind `[server]` and `[storage]`, which are filled in.
pub(crate) struct Builder {
    shutdown_deadline: &'static str,
    listen: String,
    admin_listen: String,
    server: String,
    storage: String,
    toml: String,
    directory: Option<TempDir>,
    clock: Clock,
    look_for_certificates: Option<Duration>,
    completion: CompletionTimes,
    environment: Vec<(String, String)>,
}

/// The background looks in an hour: tests count what upstream is asked.
const NO_COMPLETION: CompletionTimes =
    CompletionTimes { head_start: Duration::from_hours(1), census: Duration::from_hours(1) };

/// A running mirror with a storage of its own.
pub(crate) struct Mirror {
    app: App,
    toml: String,
    directory: TempDir,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Mirror {
    /// With these lines behind `[server]` and `[storage]`, as in `[upstreams."docker.io"]\nurl = "…"`.
    pub(crate) async fn start(toml: impl Into<String>) -> Self {
        Self::builder(toml).start().await
    }

    pub(crate) fn builder(toml: impl Into<String>) -> Builder {
        Builder {
            shutdown_deadline: "5s",
            listen: "127.0.0.1:0".to_owned(),
            admin_listen: "127.0.0.1:0".to_owned(),
            server: String::new(),
            storage: String::new(),
            toml: toml.into(),
            directory: None,
            clock: Clock::default(),
            look_for_certificates: None,
            completion: NO_COMPLETION,
            environment: Vec::new(),
        }
    }

    /// One upstream under this authority, and nothing else.
    pub(crate) async fn of(authority: &str, url: impl std::fmt::Display) -> Self {
        Self::start(format!("[upstreams.\"{authority}\"]\nurl = \"{url}\"\n")).await
    }

    /// The address of every listener, in the order of the configuration.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.app.addresses.iter().map(|(_, address, _)| *address).collect()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// `docker.io` of `/v2/…` paths, plain.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The mirror behind the sockets, for long work.
    pub(crate) fn inner(&self) -> &std::sync::Arc<roadstead::mirror::Mirror> {
        self.app.mirror()
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its configuration as a file, for commands.
    pub(crate) fn config_file(&self) -> PathBuf {
        let file = self.directory.path().join("the.toml");
        std::fs::write(&file, &self.toml).unwrap();
        file
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The value of one line of `/metrics`, as in `roadstead_hits_total{authority="docker.io"}`; 0 if it is not there.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = self.app.metrics.encode();
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    pub(crate) fn metrics(&self) -> &roadstead::metrics::Metrics {
        &self.app.metrics
    }

    /// Resolves when so many requests have come in and are being answered.
    pub(crate) async fn wait_for_requests_in_flight(&self, n: u32) {
        let there = async || self.app.metrics.requests_in_flight.get() >= i64::from(n);
        eventually("the requests come in", there).await;
    }

    /// Pulls an image by its tag, with all that it lists, and waits until that is stored.
    pub(crate) async fn pull_whole(&self, repository: &str, tag: &str) {
        let manifest = self.client().get(&format!("/v2/{repository}/manifests/{tag}")).await;
        assert_eq!(manifest.status, 200, "{repository}:{tag}: {}", manifest.text());
        let listed = manifest.json();
        let layers = listed["layers"].as_array().cloned().unwrap_or_default();
        for part in layers.iter().chain(listed.get("config")) {
            let path = format!("/v2/{repository}/blobs/{}", part["digest"].as_str().unwrap());
            assert_eq!(self.client().get(&path).await.status, 200, "{path}");
            quiet(self).await;
            assert_eq!(self.client().head(&path).await.header("cache-status"), "roadstead; hit", "{path}");
        }
    }

    /// Stops in order, as after SIGTERM.
    pub(crate) async fn stop(self) -> Stopped {
        self.app.stop().await;
        Stopped { toml: self.toml, directory: self.directory, clock: self.clock }
    }

    /// Stops in order, and starts again on the same storage.
    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start().await
    }
}

/// A mirror between two lives.
pub(crate) struct Stopped {
    pub(crate) toml: String,
    directory: TempDir,
    clock: Clock,
}

impl Stopped {
    pub(crate) fn storage(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) async fn start(self) -> Mirror {
        start(self.toml, self.directory, self.clock).await
    }

    /// Its configuration as a file, for commands.
    pub(crate) fn config_file(&self) -> PathBuf {
        let file = self.directory.path().join("the.toml");
        std::fs::write(&file, &self.toml).unwrap();
        file
    }

    /// The directory above its storage.
    pub(crate) fn into_directory(self) -> TempDir {
        self.directory
    }

    /// With another configuration: `storage` in `[storage]`, and `toml` behind it.
    pub(crate) async fn start_in(self, storage: &str, toml: impl Into<String>) -> Mirror {
        let builder = Builder { directory: Some(self.directory), clock: self.clock, ..Mirror::builder(toml) };
        builder.storage(storage).start().await
    }

    /// The same, with a background that looks at once.
    pub(crate) async fn start_completing(self, toml: impl Into<String>) -> Mirror {
        let builder = Builder { directory: Some(self.directory), clock: self.clock, ..Mirror::builder(toml) };
        builder.completes().start().await
    }

    /// With another configuration: `toml` replaces everything behind `[storage]`.
    pub(crate) async fn start_with(self, toml: impl Into<String>) -> Mirror {
        Builder { directory: Some(self.directory), clock: self.clock, ..Mirror::builder(toml) }.start().await
    }
}

impl Builder {
    /// How long a stop waits for responses and fills; 5 s unless told otherwise.
    pub(crate) fn shutdown_deadline(self, deadline: &'static str) -> Self {
        Self { shutdown_deadline: deadline, ..self }
    }

    /// A storage that is there already: `data` below this directory.
    pub(crate) fn directory(self, directory: TempDir) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// In place of a free port on `127.0.0.1`.
    pub(crate) fn listen(self, address: &str) -> Self {
        Self { listen: address.to_owned(), ..self }
    }

    /// The same for the admin side.
    pub(crate) fn admin_listen(self, address: &str) -> Self {
        Self { admin_listen: address.to_owned(), ..self }
    }

    /// The background proves and fetches at once.
    pub(crate) fn completes(self) -> Self {
        let (head_start, census) = (Duration::ZERO, Duration::from_millis(20));
        Self { completion: CompletionTimes { head_start, census }, ..self }
    }

    /// How often the listeners look for new certificates.
    pub(crate) fn look_for_certificates(self, every: Duration) -> Self {
        Self { look_for_certificates: Some(every), ..self }
    }

    /// A variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A clock that the test shares.
    pub(crate) fn clock(self, clock: &Clock) -> Self {
        Self { clock: clock.clone(), ..self }
    }

    /// More lines in `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// More lines in `[storage]`.
    pub(crate) fn storage(mut self, lines: &str) -> Self {
        self.storage.push_str(lines);
        self.storage.push('\n');
        self
    }

    pub(crate) async fn start(self) -> Mirror {
        let directory = self.directory.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let path = directory.path().join("data");
        let toml = format!(
            "[server]\nlisten = \"{}\"\nadmin_listen = \"{}\"\nshutdown_deadline = \"{}\"\n{}\n[storage]\npath = \"{}\"\n{}\n{}",
            self.listen,
            self.admin_listen,
            self.shutdown_deadline,
            self.server,
            path.display(),
            self.storage,
            self.toml,
        );
        start_as((toml, self.environment), directory, self.clock, |config| {
            config.completion = self.completion;
            for tls in config.server.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
                tls.look_every = self.look_for_certificates.unwrap_or(tls.look_every);
            }
        })
        .await
    }
}

async fn start(toml: String, directory: TempDir, clock: Clock) -> Mirror {
    start_as((toml, Vec::new()), directory, clock, |config| config.completion = NO_COMPLETION).await
}

/// `adjust` sets what has no key.
async fn start_as(
    (toml, environment): (String, Vec<(String, String)>),
    directory: TempDir,
    clock: Clock,
    adjust: impl Fn(&mut Config),
) -> Mirror {
    let begun = std::time::Instant::now();
    let app = loop {
        let config = Config::read(Some(&toml), environment.clone());
        let mut config = config.unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
        adjust(&mut config);
        match App::start(config, clock.clone()).await {
            // In one process with the mirror before it, whose last task, or a program that another test is just starting,
            // may hold the lock a moment longer.
            Err(StartError::Store(OpenError::InUse { .. })) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            started => break started.unwrap(),
        }
    };
    let (_, address, _) = app.addresses[0].clone();
    let admin = app.admin_address.unwrap();
    Mirror { app, toml, directory, clock, address, admin }
}

/// Resolves when no download runs. A blob that was pulled before is stored then, if it may be.
pub(crate) async fn quiet(mirror: &Mirror) {
    let running = || {
        let text = mirror.app.metrics.encode();
        text.lines().any(|line| line.starts_with("roadstead_fills_running{") && !line.ends_with(" 0"))
    };
    eventually("no fill runs", async || !running()).await;
}

/// The files below a directory, for what must or must not be on disk.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() { left.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}
