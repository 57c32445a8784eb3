use std::path::Path;
use std::process::ExitCode;

use roadstead::cache::scrub;
use roadstead::config::Config;
use serde_json::{Value, json};

pub(super) fn run(file: Option<&Path>, as_json: bool) -> ExitCode {
    let shown = super::read(file).and_then(|config| match super::ask_api(&config, "GET", "/api/v1/lost")? {
        Some(lost) => Ok(lost),
        None => of_stopped(config),
    });
    let lost = match shown {
        Ok(lost) => lost,
        Err(code) => return code,
    };
    if as_json {
        super::tell_json(&lost);
        return ExitCode::SUCCESS;
    }
    let rows = super::list(&lost, "lost");
    if rows.is_empty() {
        super::print("nothing is lost");
    }
    for row in rows {
        super::print(&format!("{} {} bytes", super::plain(row, "digest"), super::number(row, "size_bytes")));
    }
    ExitCode::SUCCESS
}

fn of_stopped(config: Config) -> Result<Value, ExitCode> {
    super::block_on(async {
        let offline = super::offline_storage::still(config).await?;
        let lost = scrub::lost(offline.mirror().cache()).await;
        offline.close().await;
        lost.map(|lost| json!({ "lost": lost })).map_err(|err| {
            super::report(&format!("roadstead: what is lost cannot be read: {err}"));
            ExitCode::FAILURE
        })
    })
}
