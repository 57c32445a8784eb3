use std::path::Path;
use std::process::ExitCode;

use roadstead::config::Config;
use roadstead::jobs::Status;
use serde_json::Value;

pub(super) fn run(file: Option<&Path>, as_json: bool) -> ExitCode {
    let shown = super::read(file).and_then(|config| match super::ask_api(&config, "GET", "/api/v1/status")? {
        Some(status) => Ok(with(status, true)),
        None => of_stopped(config),
    });
    match shown {
        Ok(status) => {
            if as_json {
                super::tell_json(&status);
            } else {
                super::print(&lines(&status));
            }
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn of_stopped(config: Config) -> Result<Value, ExitCode> {
    super::block_on(async {
        let offline = super::offline_storage::still(config).await?;
        let status = Status::of(offline.mirror().cache()).await;
        offline.close().await;
        Ok(with(serde_json::to_value(status).unwrap_or_default(), false))
    })
}

fn with(mut status: Value, running: bool) -> Value {
    if let Some(status) = status.as_object_mut() {
        status.insert("running".to_owned(), running.into());
    }
    status
}

fn lines(status: &Value) -> String {
    let running = status.get("running").and_then(Value::as_bool).unwrap_or_default();
    let mut lines = vec![format!("running: {}", if running { "yes" } else { "no" })];
    for key in ["version", "used_bytes", "quarantined_bytes", "max_size", "min_free", "pins", "pinned_bytes", "lost"] {
        if status.get(key).is_some_and(|value| !value.is_null()) {
            lines.push(format!("{key}: {}", super::plain(status, key)));
        } else if key == "max_size" {
            lines.push("max_size: none".to_owned());
        }
    }
    for quota in super::list(status, "quotas") {
        let (upstream, used) = (super::plain(quota, "upstream"), super::plain(quota, "used_bytes"));
        lines.push(format!("quota of {upstream}: {used} of {}", super::plain(quota, "max_size")));
    }
    if let Some(facts) = status.get("facts") {
        for key in facts.as_object().into_iter().flat_map(serde_json::Map::keys) {
            lines.push(format!("{key}: {}", super::plain(facts, key)));
        }
    }
    for part in super::list(status, "degraded") {
        lines.push(format!("degraded: {}: {}", super::plain(part, "part"), super::plain(part, "why")));
    }
    lines.join("\n")
}
