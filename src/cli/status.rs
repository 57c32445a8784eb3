use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

/// Largest answer that is read. Bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

pub(super) fn run(file: Option<&Path>, as_json: bool) -> ExitCode {
    let shown = super::read(file).and_then(|config| {
        let asked = super::ask_server(&config, "/api/v1/status")?;
        let Some(answer) = asked else { return of_stopped(&config) };
        let mut text = String::new();
        let read = answer.body.take(LONGEST).read_to_string(&mut text);
        let status: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        let status = status.filter(|_| answer.status == 200);
        status.map(|status| with(status, true)).ok_or_else(|| {
            super::say(&format!("roadstead: the server answers {}: {}", answer.status, text.trim()));
            ExitCode::FAILURE
        })
    });
    match shown {
        Ok(status) => {
            let text = serde_json::to_string_pretty(&status).unwrap_or_default();
            super::tell(&if as_json { text } else { lines(&status) });
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn of_stopped(config: &roadstead::config::Config) -> Result<Value, ExitCode> {
    super::block_on(async {
        let storage = tokio::task::block_in_place(|| super::stopped::open(config))?;
        let counts = storage.index.counts().await;
        storage.index.close().await;
        drop(storage.store);
        let status = json!({ "version": env!("CARGO_PKG_VERSION"), "degraded": [], "facts": counts.ok() });
        Ok(with(status, false))
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
    for key in ["version", "used_bytes"] {
        lines.extend(status.get(key).map(|value| format!("{key}: {}", plain(value))));
    }
    for (key, value) in status.get("facts").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("{key}: {}", plain(value)));
    }
    for part in status.get("degraded").and_then(Value::as_array).into_iter().flatten() {
        let of = |key| part.get(key).map(plain).unwrap_or_default();
        lines.push(format!("degraded: {}: {}", of("part"), of("why")));
    }
    lines.join("\n")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
