//! `tags`: the tags of one repository.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use roadstead::clock::Timestamp;
use roadstead::jobs::look::{PageQuery, tags};
use roadstead::mirror::Mirror;
use roadstead::oci::ImageName;
use serde_json::Value;

use super::{ago, pages, short};
use crate::cli::output::{list, number, plain, print, print_json, usage};
use crate::cli::reach::Reach;
use crate::cli::table::{Align, Table};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// As in "docker.io/library/nginx", or "nginx".
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Only tags that this glob matches.
    #[arg(long, value_name = "GLOB")]
    glob: Option<String>,
    /// Where each tag pointed before, and since when.
    #[arg(long)]
    history: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let (authority, repository) = ImageName::parse_repository(&options.repository)
        .map_err(|err| usage(&format!("{}: {err}", options.repository)))?;
    let mut pairs = vec![("repository", format!("{authority}/{repository}"))];
    pairs.extend(options.glob.iter().map(|glob| ("glob", glob.clone())));
    let found =
        pages::all(reach, ("/api/v1/tags", "tags"), &pairs, None, &async |mirror: &Arc<Mirror>, page: PageQuery| {
            let found = tags(mirror, (&authority, &repository), options.glob.as_deref(), &page).await?;
            Ok(serde_json::to_value(found).unwrap_or_default())
        })?;
    if options.json {
        print_json(&found);
        return Ok(());
    }
    let columns = [
        ("tag", Align::Left),
        ("digest", Align::Left),
        ("held", Align::Left),
        ("platforms", Align::Left),
        ("state", Align::Left),
        ("checked", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for tag in list(&found, "tags") {
        let platforms: Vec<&str> = list(tag, "platforms").iter().filter_map(Value::as_str).collect();
        let digest = tag.get("digest").and_then(Value::as_str).map_or_else(|| "-".to_owned(), short);
        let held = plain(tag, "held");
        table.add(vec![
            plain(tag, "tag"),
            digest,
            held,
            platforms.join(" "),
            plain(tag, "state"),
            ago(tag.get("checked")),
        ]);
        if let Some(waiting) = tag.get("waiting").filter(|waiting| waiting.is_object()) {
            let since = Timestamp::from_millis(number(waiting, "since")).rfc3339();
            let blank = String::new;
            table.add(vec![
                format!("  held back, seen {since}"),
                short(&plain(waiting, "digest")),
                blank(),
                blank(),
                blank(),
                blank(),
            ]);
        }
        for moved in list(tag, "history").iter().rev().filter(|_| options.history) {
            let since = Timestamp::from_millis(number(moved, "since")).rfc3339();
            let blank = String::new;
            table.add(vec![
                format!("  since {since}"),
                short(&plain(moved, "digest")),
                blank(),
                blank(),
                blank(),
                blank(),
            ]);
        }
    }
    print(&table.text());
    Ok(())
}
