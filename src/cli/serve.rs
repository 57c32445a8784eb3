use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use roadstead::app::App;
use roadstead::clock::Clock;
use roadstead::config::Config;
use roadstead::telemetry;

pub(super) fn run(file: Option<&Path>) -> ExitCode {
    let config = match super::read(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::start(config.log.format, config.log.level);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config));
            // A hanging blocking read must not keep the process alive.
            runtime.shutdown_background();
            telemetry::flush();
            code
        }
        Err(err) => {
            super::report(&format!("roadstead: cannot start: {err}"));
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of file descriptors. The soft limit is often far below the hard one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::debug!("the limit on file descriptors stays as it is");
    }
}

async fn serve(config: Config) -> ExitCode {
    let settings = &config.server;
    if settings.admin_token_file.is_none() && settings.admin_listen.is_some_and(|address| !address.ip().is_loopback()) {
        tracing::warn!("`admin_listen` is not on loopback and there is no `admin_token_file`: /metrics is refused");
    }
    let (served, deadline) = (config.served.join(", "), config.shutdown_deadline);
    let storage = config.storage.path.display().to_string();
    // Before anything is bound, because a signal may come as soon as the server answers.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(err) => {
            super::report(&format!("roadstead: cannot wait for signals: {err}"));
            return ExitCode::FAILURE;
        }
    };
    let started = tokio::select! {
        started = App::start(config, Clock::default()) => started,
        () = signals.next() => return ExitCode::SUCCESS,
    };
    let app = match started {
        Ok(app) => app,
        Err(err) => {
            super::report(&format!("roadstead: {err}"));
            return ExitCode::FAILURE;
        }
    };
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
    ExitCode::SUCCESS
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
