//! `rm`: removes tags, manifests, repositories, blobs.

use std::process::ExitCode;

use clap::Args;
use roadstead::jobs::change::{LongChange, Removal};
use roadstead::oci::Named;
use serde_json::json;

use crate::cli::carry::follow::Shown;
use crate::cli::output::usage;
use crate::cli::reach::Reach;

/// Names in one call of the API.
const AT_ONCE: usize = 1000;

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
    let mut shown = Shown::new(*json, false);
    let orders = references.chunks(AT_ONCE);
    let orders: Vec<_> =
        orders.map(|some| super::order(json!({ "references": some, "dry_run": dry_run, "force": force }))).collect();
    let here = |_: &_| Ok(LongChange::Remove(references.clone(), how));
    let job = super::change(reach, &mut shown, "/api/v1/remove", &orders, here)?;
    super::end(shown, &job)
}
