//! `who`: who pulled something.

use std::process::ExitCode;

use clap::Args;
use roadstead::jobs::look::who;
use roadstead::oci::Named;
use serde_json::Value;

use super::{ago, short, typed};
use crate::cli::output::{flag, list, number, plain, print, print_json, report, usage};
use crate::cli::reach::{Reach, Request, query};
use crate::cli::table::{Align, Table};

#[derive(Args)]
pub(in crate::cli) struct Options {
    /// An image, a repository, or a digest of a manifest or a layer.
    #[arg(value_name = "REF|DIGEST")]
    reference: String,
    /// Only pulls of so long, as in "7d".
    #[arg(long, value_name = "AGE")]
    since: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let named: Named = typed(&options.reference)?;
    let since = options.since.as_deref().map(humantime::parse_duration).transpose();
    let since = since.map_err(|err| usage(&format!("--since: {err}")))?;
    let keys = std::iter::once(("reference", &options.reference));
    let path = query("/api/v1/who", keys.chain(options.since.as_ref().map(|since| ("since", since))));
    let found = reach.answer(Request::get(&path), async |mirror| {
        Ok(serde_json::to_value(who(mirror, &named, since).await?).unwrap_or_default())
    })?;
    if options.json {
        print_json(&found);
        return Ok(());
    }
    if list(&found, "pulls").is_empty() {
        report("nobody has pulled it, as far as it was recorded: `[who]` of the configuration has it recorded");
        return Ok(());
    }
    let columns = [
        ("who", Align::Left),
        ("last", Align::Right),
        ("first", Align::Right),
        ("requests", Align::Right),
        ("repository", Align::Left),
        ("tag", Align::Left),
        ("digest", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for pull in list(&found, "pulls") {
        let tag = pull.get("tag").and_then(Value::as_str).unwrap_or("-").to_owned();
        table.add(vec![
            plain(pull, "who"),
            ago(pull.get("last")),
            ago(pull.get("first")),
            number(pull, "count").to_string(),
            plain(pull, "repository"),
            tag,
            short(&plain(pull, "digest")),
        ]);
    }
    print(&table.text());
    if flag(&found, "has_more") {
        report("there are more; --since, or a digest, asks for fewer");
    }
    Ok(())
}
