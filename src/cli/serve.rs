use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config));
            // A blocking read that hangs must not hold the process.
            runtime.shutdown_background();
            code
        }
        Err(err) => {
            super::say(&format!("roadstead: cannot start: {err}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> ExitCode {
    let (served, deadline) = (config.served.join(", "), config.shutdown_deadline);
    let storage = config.storage.path.display().to_string();
    let app = match App::start(config, Clock::default()).await {
        Ok(app) => app,
        Err(err) => {
            super::say(&format!("roadstead: {err}"));
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
    stopped().await;
    tracing::info!("stopping; responses and downloads have {} s to end", deadline.as_secs());
    tokio::select! {
        () = app.stop() => {}
        () = stopped() => tracing::warn!("stopping at once"),
    }
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// SIGTERM or SIGINT.
async fn stopped() {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    match signals {
        Ok((mut term, mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        Err(err) => {
            tracing::error!(%err, "cannot wait for signals; only SIGKILL ends this process");
            std::future::pending::<()>().await;
        }
    }
}
