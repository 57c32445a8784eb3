use std::process::ExitCode;

use roadstead::cache::scrub;
use roadstead::jobs::Refused;
use serde_json::json;

use crate::cli::output::{list, number, plain, print, print_json, size};
use crate::cli::reach::{Reach, Request};

pub(in crate::cli) fn run(reach: &Reach, as_json: bool) -> Result<(), ExitCode> {
    let lost = reach.answer(Request::get("/api/v1/lost"), async |mirror| {
        let lost = scrub::lost(mirror.cache()).await;
        lost.map(|lost| json!({ "lost": lost })).map_err(Refused::from)
    })?;
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
