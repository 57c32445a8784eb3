use std::process::ExitCode;

use roadstead::cache::scrub;
use roadstead::config::Config;
use serde_json::{Value, json};

use super::output::{failed, list, number, plain, print, print_json, size};
use super::reach::ConfigFile;
use super::reach::{offline_storage, server};

pub(super) fn run(file: &ConfigFile, as_json: bool) -> Result<(), ExitCode> {
    let config = file.read_without_secrets()?;
    let lost = match server::ask_api(&config, "GET", "/api/v1/lost")? {
        Some(lost) => lost,
        None => offline(config)?,
    };
    if as_json {
        print_json(&lost);
        return Ok(());
    }
    let rows = list(&lost, "lost");
    if rows.is_empty() {
        print("nothing is lost");
    }
    for row in rows {
        print(&format!("{} {}", plain(row, "digest"), size(number(row, "size_bytes"))));
    }
    Ok(())
}

fn offline(config: Config) -> Result<Value, ExitCode> {
    let lost = offline_storage::with_mirror(config, async |mirror| scrub::lost(mirror.cache()).await)?;
    lost.map(|lost| json!({ "lost": lost })).map_err(|err| failed(&format!("what is lost cannot be read: {err}")))
}
