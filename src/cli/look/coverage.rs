//! `coverage`: which images of a list would survive an outage now.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use roadstead::jobs::look::coverage;
use roadstead::oci::Platform;
use serde_json::{Value, json};

use crate::cli::output::{failed, list, plain, print, size, usage};
use crate::cli::reach::{Reach, Request, Site, offline_storage};
use crate::cli::table::{Align, Table};

/// Names in one call of the API.
const AT_ONCE: usize = 200;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A file with names, one on each line, or a manifest of Kubernetes, a rendered chart or a compose file, of which every
    /// `image` counts; "-" for standard input.
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Has to be held, as in "linux/arm64". Without any: those of which something is held.
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<Platform>,
    /// As JSON, a line for each image; the last one is the result.
    #[arg(long)]
    json: bool,
    /// Images, as in "docker.io/library/nginx:1" or "nginx".
    #[arg(value_name = "REF")]
    references: Vec<String>,
}

pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let names = crate::cli::carry::names(&options.references, &options.files)?;
    if names.is_empty() {
        return Err(usage("no image is given: name some, or a file with --file"));
    }
    let mut shown = Shown { as_json: options.json, items: 0, failed: 0, table: Table::new(&COLUMNS) };
    match reach.find()? {
        Site::Running(server) => {
            let platforms: Vec<String> = options.platforms.iter().map(ToString::to_string).collect();
            for some in names.chunks(AT_ONCE) {
                let question = json!({ "references": some, "platforms": platforms });
                shown.add(&server.json(Request::post("/api/v1/coverage").with(&question))?);
            }
        }
        Site::Stopped(config) => offline_storage::with_mirror(*config, async |mirror| {
            for some in names.chunks(AT_ONCE) {
                let covered = coverage(mirror, some, &options.platforms).await;
                shown.add(&serde_json::to_value(covered).unwrap_or_default());
            }
        })?,
    }
    shown.end()
}

const COLUMNS: [(&str, Align); 4] =
    [("image", Align::Left), ("outcome", Align::Left), ("held", Align::Right), ("problem", Align::Left)];

struct Shown {
    as_json: bool,
    items: usize,
    failed: usize,
    table: Table,
}

impl Shown {
    fn add(&mut self, covered: &Value) {
        for item in list(covered, "items") {
            self.items += 1;
            self.failed += usize::from(plain(item, "outcome") != "held");
            if self.as_json {
                print(&item.to_string());
                continue;
            }
            let problem = item.get("problem").and_then(Value::as_str).unwrap_or_default().to_owned();
            let bytes = size(item.get("bytes").and_then(Value::as_u64).unwrap_or_default());
            self.table.add(vec![plain(item, "item"), plain(item, "outcome"), bytes, problem]);
        }
    }

    fn end(self) -> Result<(), ExitCode> {
        let Self { as_json, items, failed: missing, table } = self;
        if as_json {
            print(&json!({ "done": true, "items": items, "failed": missing }).to_string());
            return if missing == 0 { Ok(()) } else { Err(ExitCode::FAILURE) };
        }
        print(&table.text());
        if missing == 0 {
            Ok(())
        } else {
            Err(failed(&format!("{missing} of {items} images would not survive an outage")))
        }
    }
}
