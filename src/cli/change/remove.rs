//! `rm`: removes tags, manifests, repositories, blobs.

use std::process::ExitCode;

use clap::Args;
use roadstead::jobs::change::{Removal, remove};
use roadstead::oci::Named;
use serde_json::json;

use super::Items;
use crate::cli::output::usage;
use crate::cli::reach::{Reach, Request};

/// Names in one call of the API: each may take a second.
const AT_ONCE: usize = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// An image by tag or digest, with what only it needs; a digest alone; or, without tag and digest, a whole repository.
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    /// Only tell what would go.
    #[arg(long)]
    dry_run: bool,
    /// Also what pins keep.
    #[arg(long)]
    force: bool,
    /// As JSON, a line for each item; the last one is the result.
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(reach: &Reach, options: &Options) -> Result<(), ExitCode> {
    let Options { references, dry_run, force, json } = options;
    for reference in references {
        let _named: Named = reference.parse().map_err(|err| usage(&format!("{reference}: {err}")))?;
    }
    let how = Removal { dry_run: *dry_run, force: *force };
    let mut items = Items::new(*json);
    for some in references.chunks(AT_ONCE) {
        let order = json!({ "references": some, "dry_run": dry_run, "force": force });
        let answer = reach.answer(Request::post("/api/v1/remove").with(&order), async |mirror| {
            Ok(serde_json::to_value(remove(mirror, some, how).await).unwrap_or_default())
        })?;
        items.add(&answer);
    }
    items.end()
}
